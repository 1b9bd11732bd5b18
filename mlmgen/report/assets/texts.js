// How to read each plot, in plain words.

/** Return the paragraphs of a text that blank lines part. */
const paragraphs = (text) =>
  text
    .trim()
    .split(/\n\s*\n/)
    .map((one) => one.replace(/\s+/g, " ").trim());

const HOW = {
  cells: paragraphs(`
    Each row is a donor, each column a cell type; the colour is the number of cells on a logarithmic scale.

    A donor with few cells says little about the typical cell of that donor. More cells of the same donors do not
    replace more donors.`),
  volcano: paragraphs(`
    Each point is a gene. To the right: higher in the first arm of the contrast; to the left: lower. The higher up, the
    less such an effect would be expected by chance.

    Triangles (\u25b2 up, \u25bc down) are called at the false discovery rate of this run; grey is everything else. The
    dashed line is where calls begin.

    A large effect far down is a gene with few counts or with donors that disagree: its interval is wide.`),
  volcanoWeighted: paragraphs(`
    Each point is a gene. To the right: higher in the first arm of the contrast; to the left: lower. The higher up, the
    less such an effect would be expected by chance.

    Triangles (\u25b2 up, \u25bc down) are called at the false discovery rate of this run; grey is everything else.
    P-values were weighted by how precisely genes of the same total count are measured, so that no one p-value parts
    called genes from the others.

    A large effect far down is a gene with few counts or with donors that disagree: its interval is wide.`),
  ma: paragraphs(`
    The same genes by how much they are expressed. Genes with few counts scatter more, on both sides of zero.

    If the cloud as a whole lies above or below zero, normalization has missed something, or most genes change.`),
  sets: paragraphs(`
    Each column is a set of cell types, marked by the dots; its bar counts the genes called in all of these cell types
    and in no other.

    A column with one dot counts what is called in that cell type alone.`),
  pairs: paragraphs(`
    The colour is the share of the two cell types' discoveries together that both have (Jaccard index); the number is
    how many genes that are. The diagonal has each cell type's own number.`),
  forest: paragraphs(`
    A symbol is the estimated effect, the line its 95 % interval: the range of effects that go with the data. A line
    that crosses zero leaves the direction open.

    Circles are the mixed model of the cells, diamonds pseudobulk; filled symbols are called at the false discovery
    rate of the run.`),
  donors: paragraphs(`
    Each dot is a sample of a donor: its mean count per cell after scaling for depth, with a 95 % interval that carries
    the differences between its cells. Larger dots have more cells.

    Thin lines join samples of the same donor. On the logarithmic scale samples without any count stand at the bottom,
    marked 0.`),
  caterpillar: paragraphs(`
    Each row is a group of a random effect, a donor for example: how far it lies from what the formula predicts for it,
    on the natural log scale (0.7 is a factor of two).

    Filled: the shrunken estimate with its 95 % interval, which trusts a group the more the more counts it has. Hollow:
    what the group's own data say alone. The distance between them is the pull towards the others (partial pooling).
    Hollow symbols at the edge lie beyond it.

    A donor far from all others may deserve a look at its cells.`),
  mean: paragraphs(`
    Each point is a gene. The line, where there is one, is the prior, the variance of a typical gene with this mean.
    80 % of the true variances are expected in the band; the points are estimates, pulled towards it.

    A gene's own estimate from few donors says little, so it is weighed against this line: the points are what results.
    Open a gene to see its estimate before and after.`),
  icc: paragraphs(`
    The intraclass correlation of a factor is the share of a gene's variance, of what the fixed effects leave, that two
    cells of the same group have in common: 0 means that cells of one donor are no more alike than cells of different
    ones, 1 that all cells of a donor are the same. Groups within groups share both: two cells of the same sample of a
    donor are also of the same donor.

    Even a share of a few percent makes a test wrong that counts cells as replicates, because donors have many cells.
    Of sums per sample it says how alike two samples of the same group are.`),
  violins: paragraphs(`
    A violin is as wide as there are genes with that share of variance; the white dot is the median gene. The shares of
    one gene add to one, with the noise of counting.

    It is the picture of variancePartition for a model of counts, on the scale of the logarithm, of what the formula's
    fixed effects leave.`),
  histogram: paragraphs(`
    Flat with a peak at the left is what a healthy analysis looks like. A slope up to the right, or a hill in the
    middle, means that the model does not fit: hidden groups, or too few counts for a p-value.

    The dashed line is where the bars would be if nothing changed at all.`),
  qq: paragraphs(`
    Sorted p-values against those expected if nothing changed, both as \u2212log10. Points on the diagonal: as expected.
    Leaving it upwards only at the right end: some genes change. Leaving it from the beginning: many genes change, or
    the p-values are too small.

    If the run was audited, dotted lines are p-values with permuted labels: these should follow the diagonal to the
    end.`),
  agreement: paragraphs(`
    Each point is a gene. On the diagonal both methods see the same effect.

    They disagree (crosses) if the signs differ with both p below 0.05, if one calls a gene and the other has p above
    0.1, or if the effects differ by more than three standard errors.`),
  reasons: paragraphs(`
    The likely cause of each disagreement, found by looking at the gene: single cells that hold most counts, samples of
    few cells, a variance estimated as zero by one method, or low counts.`),
  levels: paragraphs(`
    Filled: the typical size of a donor's random effect over the genes with the clearest variance, in standard
    deviations. 1 is as expected, 2 is a donor that lies out twice as far.

    Hollow: the middle of its effects, far from zero if the donor is higher (or lower) in most genes.`),
  normal: paragraphs(`
    Points on the line: normally distributed, as assumed. Ends that bend away: more extreme donors than the model
    expects. Tests are still fair for most genes, but look at the donors beside.`),
};
