// The genes that a set of cell types shares.

const MOST_LISTED = 300;

/** Return the genes called in exactly these cell types, for the chosen contrast and method. */
async function genesOfSet(types) {
  const { c, m } = state;
  const called = new Map();
  for (const t of fittedCellTypes()) {
    const effects = await report.data.effects(t, c, m);
    if (!effects) continue;
    effects.gene.forEach((gene, i) => effects.called[i] && called.set(gene, [...(called.get(gene) || []), t]));
  }
  const wanted = [...types].sort((a, b) => a - b).join(" ");
  return [...called.keys()].filter((gene) => called.get(gene).join(" ") === wanted);
}

/** Fill a place with links to the genes of a set, and a download of all of them. */
async function listGenesOfSet(holder, types) {
  fill(holder, el("p", { class: "sub" }, "Looking them up \u2026"));
  const genes = await genesOfSet(types);
  genes.sort((a, b) => collator.compare(symbol(a), symbol(b)));
  const where = listed(types.map(cellTypeName));
  const file = fileName(report.name, contrastName(state.c), report.meta.methods[state.m].key, "shared genes");
  const rows = () => genes.map((gene) => [report.data.genes[gene], symbol(gene), types.map(cellTypeName).join(", ")]);
  const save = () => download(`${file}.tsv`, tsv(["gene", "gene_name", "cell_types"], rows()));
  const more = genes.length > MOST_LISTED ? `, the first ${MOST_LISTED} of them` : "";
  const heading = el(
    "h4",
    { tabindex: "-1" },
    `${counted(genes.length, "gene")} called in ${where}, nowhere else${more}`,
  );
  const links = genes
    .slice(0, MOST_LISTED)
    .map((gene) => el("li", null, geneLink(gene, { t: types[0], c: state.c })));
  fill(holder, heading, el("ul", { class: "genes-of-set" }, links), button("Download as TSV", save, "small"));
  heading.focus({ preventScroll: true });
}
