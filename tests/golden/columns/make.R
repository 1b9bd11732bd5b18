# Rscript make.R INPUTS OUTPUT: the columns of edgeR, limma and DESeq2, and their mean expression.
suppressMessages({library(edgeR); library(limma); library(DESeq2)})
folders <- commandArgs(TRUE)
obs <- read.csv(file.path(folders[1], "samples_many_obs.csv"))
obs$condition <- factor(obs$condition)
counts <- t(as.matrix(read.csv(file.path(folders[1], "samples_many_counts.csv"), check.names = FALSE)))
colnames(counts) <- obs$sample
X <- model.matrix(~condition, obs)
# The size factors as library sizes, and of geometric mean 1 as DESeq2's: what mlmgen takes as offsets.
library_size <- obs$size_factor / sum(obs$size_factor) * sum(counts)
relative <- obs$size_factor / exp(mean(log(obs$size_factor)))

v <- voom(counts, X, lib.size = library_size)
fit <- lmFit(v, X)
y <- DGEList(counts, lib.size = library_size)
lrt <- glmLRT(glmFit(estimateDisp(y, X), X), coef = 2)
dds <- DESeqDataSetFromMatrix(counts, obs, ~condition)
sizeFactors(dds) <- relative
deseq <- results(suppressMessages(DESeq(dds)))

header <- function(package, call, table) {
  paste(package, as.character(packageVersion(package)), call, paste(colnames(table), collapse = " "), sep = "\t")
}
writeLines(c(
  "program\tversion\tcall\tcolumns",
  header("limma", "topTable(eBayes(lmFit(voom(counts, X), X)), coef = 2, confint = TRUE)", topTable(eBayes(fit), coef = 2, confint = TRUE)),
  header("limma", "topTreat(treat(lmFit(voom(counts, X), X)), coef = 2, confint = TRUE)", topTreat(treat(fit), coef = 2, confint = TRUE)),
  header("edgeR", "topTags(glmLRT(glmFit(estimateDisp(y, X), X), coef = 2))", topTags(lrt)$table),
  header("DESeq2", "results(DESeq(dds))", deseq)
), file.path(folders[2], "columns.tsv"))
write.csv(data.frame(
  gene = rownames(counts), AveExpr = signif(rowMeans(v$E), 12), topTable = signif(fit$Amean, 12),
  logCPM = signif(aveLogCPM(y, dispersion = 0), 12), baseMean = signif(deseq$baseMean, 12)
), file.path(folders[2], "means.csv"), row.names = FALSE, quote = FALSE)
cat(R.version.string, "\n")
