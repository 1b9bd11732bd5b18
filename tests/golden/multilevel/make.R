# Rscript make.R: simulates the five data sets of this folder and fits them; run it in this folder (2 minutes).
# Made with R 4.2.2, lme4 1.1-31, glmmTMB 1.1.5 (TMB 1.9.2) of Debian 12: lmer, glmer and glmmTMB as called in `fits` below.
# std_error of lme4: given the variances (glmer: vcov(use.hessian = FALSE)); of glmmTMB: with their uncertainty.
suppressMessages({library(lme4); library(glmmTMB); library(splines)})
SEED <- 20240702

# Simulation: eta = mean + fixed + scale * random; responses two to a family.
responses <- function(obs, fixed, random, rng) {
  n <- nrow(obs); size <- obs$size_factor
  nb <- function(mean, phi) rpois(n, exp(mean + fixed + random) * size * rgamma(n, 1 / phi, 1 / phi))
  binary <- function(mean) rbinom(n, 1, plogis(mean + fixed + 2 * random + log(size)))
  cbind(obs,
    nb_low = nb(-0.3, 0.6), nb_high = nb(2, 0.2),
    poisson_low = rpois(n, exp(-0.5 + fixed + random) * size), poisson_high = rpois(n, exp(1.5 + fixed + random) * size),
    binary_rare = binary(-1), binary_half = binary(0.2),
    gaussian_noisy = round(1 + fixed + random + rnorm(n, 0, 0.9), 3), gaussian_exact = round(fixed + random + rnorm(n, 0, 0.3), 3))
}
sizes <- function(n) round(exp(rnorm(n, 0, 0.3)), 3)
label <- function(letter, i) sprintf("%s%02d", letter, i)

paired <- function() {
  donors <- 14
  n <- pmax(round(17 * exp(rnorm(2 * donors, 0, 0.35))), 5)
  d <- rep(rep(seq_len(donors), each = 2), n); stim <- rep(rep(0:1, donors), n)
  obs <- data.frame(donor = label("D", d), condition = ifelse(stim == 1, "stim", "ctrl"))
  obs$sample <- paste(obs$donor, obs$condition, sep = "_")
  obs$pct <- round(rnorm(length(d)) + 0.5 * rnorm(donors)[d], 2); obs$score <- round(runif(length(d), -1, 1), 2)
  obs$size_factor <- sizes(length(d))
  random <- 0.5 * rnorm(donors)[d] + stim * (0.4 * rnorm(donors))[d] + 0.2 * rnorm(2 * donors)[2 * d + stim - 1] + obs$pct * 0.25 * rnorm(donors)[d]
  responses(obs, 0.5 * stim + 0.3 * obs$pct - 0.15 * obs$pct^2 - 0.3 * obs$score, random)
}
visits <- function() {
  donors <- 18
  count <- sample(3:6, donors, TRUE); d <- rep(seq_len(donors), count)
  time <- round(unlist(lapply(count, function(k) cumsum(runif(k, 0.2, 0.9)) - 0.2)), 1)
  cells <- sample(5:9, length(d), TRUE); d <- rep(d, cells); time <- rep(time, cells)
  treated <- as.integer(d > donors / 2)
  obs <- data.frame(donor = label("D", d), arm = ifelse(treated == 1, "treated", "control"), time, size_factor = sizes(length(d)))
  u <- rnorm(donors); slope <- 0.4 * (0.3 * u + sqrt(1 - 0.09) * rnorm(donors))
  responses(obs, 0.3 * treated + time * (0.2 + 0.3 * treated) - 0.1 * time^2, 0.5 * u[d] + slope[d] * time)
}
sites <- function() {
  key <- expand.grid(cell = 1:7, sample = 1:3, donor = 1:4, site = 1:6)
  d <- 4 * (key$site - 1) + key$donor; s <- 3 * (d - 1) + key$sample
  obs <- data.frame(site = label("H", key$site), donor = label("D", d), sample = label("S", s), arm = c("control", "treated")[1 + d %% 2], size_factor = sizes(length(d)))
  responses(obs, 0.4 * (d %% 2), 0.4 * rnorm(6)[key$site] + 0.5 * rnorm(24)[d] + 0.35 * rnorm(72)[s])
}
crossed <- function() {
  cells <- do.call(rbind, lapply(1:14, function(d) data.frame(d, b = rep(sort(sample(9, 4)), each = 9))))
  obs <- data.frame(donor = label("D", cells$d), batch = label("B", cells$b), condition = ifelse(cells$d > 7, "stim", "ctrl"), size_factor = sizes(nrow(cells)))
  responses(obs, 0.5 * (cells$d > 7), 0.5 * rnorm(14)[cells$d] + 0.4 * rnorm(9)[cells$b])
}
weeks <- function() {
  # One row for each donor and week: no pattern of the design has two rows.
  key <- expand.grid(week = 0:4, d = 1:40)[-seq(7, 200, 11), ]
  obs <- data.frame(donor = label("D", key$d), arm = c("control", "treated")[1 + key$d %% 2], week = paste0("w", key$week), size_factor = sizes(nrow(key)))
  responses(obs, 0.4 * (key$d %% 2) + 0.15 * key$week, 0.6 * rnorm(40)[key$d])
}

# name, data set, formula of mlmgen, formula of R where it differs (`conditionstim`: 0 or 1, so that R names it as the factor's column).
structures <- read.csv(text = '
structure,data,formula,r_formula
intercept,paired,~ condition + (1 | donor),
nested,paired,~ condition + (1 | donor/sample),
slope_factor,paired,~ condition + (1 + condition | donor),
level_means,paired,~ condition + (0 + condition | donor),
slope_factor_diagonal,paired,~ condition + (1 + condition || donor),~ condition + (1 | donor) + (0 + conditionstim | donor)
covariates,paired,~ condition + pct + score + (1 | donor),
slope_covariate,paired,~ condition + pct + (1 + pct | donor),
interaction,paired,~ condition * pct + (1 | donor),
spline,paired,"~ condition + bs(pct, df=4) + (1 | donor)",
slope_time,visits,~ arm * time + (1 + time | donor),
slope_time_diagonal,visits,~ arm * time + (1 + time || donor),~ arm * time + (1 | donor) + (0 + time | donor)
slope_only,visits,~ arm * time + (0 + time | donor),
polynomial,visits,"~ arm * poly(time, 2) + (1 | donor)",
three_levels,sites,~ arm + (1 | site/donor/sample),
crossed,crossed,~ condition + (1 | donor) + (1 | batch),
single_rows,weeks,~ arm + week + (1 | donor),
')
structures$r_formula[structures$r_formula == ""] <- structures$formula[structures$r_formula == ""]

# Tighter optimizers than the defaults: the golden numbers must be good to the tolerance of the tests.
tmb_control <- glmmTMBControl(optCtrl = list(iter.max = 1000, eval.max = 2000, rel.tol = 1e-12, x.tol = 1e-10))
bfgs_control <- glmmTMBControl(optimizer = optim, optArgs = list(method = "BFGS"), optCtrl = list(maxit = 500, reltol = 1e-15))
lmer_control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
glmer_control <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-12, optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
families <- list(nbinom2 = "nb", poisson = "poisson", binomial = "binary", gaussian = "gaussian")
fit <- function(program, formula, data, family, method) {
  if (program == "glmmTMB") {
    m <- glmmTMB(formula, data = data, family = family, REML = method == "REML", control = tmb_control)
    # nlminb stops early now and then ("singular convergence"): BFGS goes on from its last words.
    return(update(m, start = m$obj$env$parList()[c("beta", "theta", "betad")], control = bfgs_control))
  }
  if (family == "gaussian") return(lmer(formula, data = data, REML = method == "REML", control = lmer_control))
  glmer(formula, data = data, family = family, nAGQ = if (method == "AGQ9") 9 else 1, control = glmer_control)
}
# family, program, method; AGQ9 where the structure is one random intercept.
fits <- read.csv(text = "
family,program,method
nbinom2,glmmTMB,REML
nbinom2,glmmTMB,ML
poisson,glmmTMB,REML
poisson,lme4,ML
binomial,glmmTMB,ML
binomial,lme4,ML
binomial,lme4,AGQ9
gaussian,lme4,REML
gaussian,lme4,ML
gaussian,glmmTMB,REML
")
rows_of <- function(m, key) {
  row <- function(component, term, estimate, se = NA) data.frame(key, component, term = ifelse(grepl(",", term), dQuote(term, FALSE), term), estimate = signif(estimate, 10), std_error = signif(se, 7))
  if (inherits(m, "glmmTMB")) {
    # The optimizers' messages say little at these tolerances; the judge is what a Newton step would still gain.
    gradient <- as.numeric(m$obj$gr(m$fit$par))
    converged <- isTRUE(m$sdr$pdHess) && gradient %*% m$sdr$cov.fixed %*% gradient / 2 < 1e-8
    fixed <- fixef(m)$cond; se <- sqrt(diag(vcov(m)$cond)); covariances <- VarCorr(m)$cond
  } else {
    converged <- all(grepl("singular", m@optinfo$conv$lme4$messages))
    fixed <- fixef(m); covariances <- VarCorr(m)
    se <- sqrt(diag(as.matrix(if (isGLMM(m)) vcov(m, use.hessian = FALSE) else vcov(m))))
  }
  table <- row("fixed", names(fixed), fixed, se)
  for (group in names(covariances)) {
    V <- covariances[[group]]
    for (i in seq_len(nrow(V))) for (j in seq_len(i)) table <- rbind(table, row(paste0("cov:", group), paste(rownames(V)[i], colnames(V)[j], sep = ":"), V[i, j]))
  }
  if (key$family == "nbinom2") table <- rbind(table, row("dispersion", "phi", 1 / sigma(m)))
  if (key$family == "gaussian") table <- rbind(table, row("dispersion", "sigma2", sigma(m)^2))
  cbind(rbind(table, row("loglik", "loglik", as.numeric(logLik(m)))), converged)
}

set.seed(SEED)
data <- list(paired = paired(), visits = visits(), sites = sites(), crossed = crossed(), weeks = weeks())
for (name in names(data)) write.csv(data[[name]], paste0("data_", name, ".csv"), row.names = FALSE, quote = FALSE)
write.csv(structures[, c("structure", "data", "formula")], "structures.csv", row.names = FALSE)
for (i in seq_len(nrow(structures))) {
  s <- structures[i, ]; tables <- list()
  for (k in seq_len(nrow(fits))) {
    f <- fits[k, ]
    if (f$method == "AGQ9" && !s$structure %in% c("intercept", "single_rows")) next
    for (response in grep(paste0("^", families[[f$family]], "_"), names(data[[s$data]]), value = TRUE)) {
      d <- data[[s$data]]; d$y <- d[[response]]; if (s$data == "paired") d$conditionstim <- as.numeric(d$condition == "stim")
      formula <- as.formula(paste("y", s$r_formula, if (f$family != "gaussian") "+ offset(log(size_factor))"))
      m <- try(suppressMessages(suppressWarnings(fit(f$program, formula, d, f$family, f$method))), silent = TRUE)
      if (inherits(m, "try-error")) { cat("failed:", s$structure, response, f$program, f$method, m); next }
      table <- rows_of(m, data.frame(response, family = f$family, method = f$method, program = f$program))
      if (!table$converged[1]) cat("not converged:", s$structure, response, f$program, f$method, "\n")
      tables[[length(tables) + 1]] <- table
    }
  }
  write.csv(do.call(rbind, tables), paste0("fits_", s$structure, ".csv"), row.names = FALSE, quote = FALSE, na = "")
}
cat(R.version.string, "\n")
for (package in c("lme4", "glmmTMB", "TMB")) cat(package, as.character(packageVersion(package)), "\n")
