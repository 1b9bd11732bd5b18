# Rscript make_golden.R INPUTS OUTPUTS: fits the simulated inputs with glmmTMB, edgeR and limma.
suppressMessages({library(glmmTMB); library(edgeR); library(limma)})
folders <- commandArgs(TRUE)
dir.create(folders[2], showWarnings = FALSE, recursive = TRUE)

read_input <- function(set) {
  obs <- read.csv(file.path(folders[1], paste0(set, "_obs.csv")))
  for (column in c("donor", "sample", "condition")) obs[[column]] <- factor(obs[[column]])
  list(obs = obs, counts = as.matrix(read.csv(file.path(folders[1], paste0(set, "_counts.csv")), check.names = FALSE)))
}

# A tighter optimizer than the default: the golden numbers must be good to the tolerance of the tests.
control <- glmmTMBControl(optCtrl = list(iter.max = 1000, eval.max = 2000, rel.tol = 1e-12, x.tol = 1e-10))

rows_of <- function(fit, gene, family) {
  # nlminb calls its last steps at this tolerance false convergence; the gradient is the judge. (A variance that
  # goes to 0 has a flat direction in glmmTMB's parametrization and a Hessian that is not positive definite.)
  converged <- max(abs(fit$obj$gr(fit$fit$par))) < 1e-4
  row <- function(component, term, estimate, se) {
    data.frame(gene, component, term, estimate = signif(estimate, 12), std_error = signif(se, 10), converged)
  }
  fixed <- fixef(fit)$cond
  se <- suppressWarnings(summary(fit)$coefficients$cond[, 2])
  table <- row("fixed", names(fixed), fixed, se)
  covariances <- VarCorr(fit)$cond
  for (group in names(covariances)) table <- rbind(table, row("variance", group, covariances[[group]][1, 1], NA))
  if (family == "nbinom2") table <- rbind(table, row("variance", "dispersion", 1 / sigma(fit), NA))
  rbind(table, row("loglik", "loglik", -fit$fit$objective, NA))
}

fit_set <- function(set, formula, family) {
  input <- read_input(set)
  tables <- lapply(colnames(input$counts), function(gene) {
    data <- input$obs
    data$y <- input$counts[, gene]
    fit <- try(suppressWarnings(glmmTMB(formula, data = data, family = family, REML = TRUE, control = control)), silent = TRUE)
    if (inherits(fit, "try-error")) NULL else rows_of(fit, gene, family)
  })
  write.csv(do.call(rbind, tables), file.path(folders[2], paste0(set, "__glmmTMB__", family, "__REML.csv")), row.names = FALSE, quote = FALSE)
}

unpaired <- y ~ condition + age + (1 | donor) + offset(log(size_factor))
paired <- y ~ condition + (1 | donor) + (1 | sample) + offset(log(size_factor))
for (family in c("nbinom2", "poisson")) {
  fit_set("cells_unpaired", unpaired, family)
  fit_set("cells_paired", paired, family)
}
fit_set("samples_unpaired", y ~ condition + age + offset(log(size_factor)), "nbinom2")
fit_set("samples_paired", y ~ condition + (1 | donor) + offset(log(size_factor)), "nbinom2")

input <- read_input("samples_many")
X <- model.matrix(~condition, input$obs)
y <- DGEList(t(input$counts))
# The size factors as library sizes: what mlmgen takes as offsets.
y$samples$lib.size <- input$obs$size_factor * 1e4
y$samples$norm.factors <- 1
ql <- glmQLFTest(glmQLFit(estimateDisp(y, X), X, robust = FALSE), coef = 2)$table
v <- voom(y, X, lib.size = y$samples$lib.size)
moderated <- eBayes(lmFit(v, X))
write.csv(data.frame(
  gene = rownames(ql), edger_log2fc = signif(ql$logFC, 8), edger_pvalue = signif(ql$PValue, 8),
  limma_log2fc = signif(moderated$coefficients[, 2], 8), limma_pvalue = signif(moderated$p.value[, 2], 8)
), file.path(folders[2], "samples_many__edgeR_limma.csv"), row.names = FALSE, quote = FALSE)
cat(R.version.string, "\n")
for (package in c("glmmTMB", "TMB", "edgeR", "limma")) cat(package, as.character(packageVersion(package)), "\n")
