// Everything about one gene.

/** What is known about the gene that is open: its rows in all cell types, contrasts and methods; donors of one type. */
const story = { gene: -1, rows: [], t: -1, detail: null, variable: "", log: true, group: 0 };
let storyKey = "";
let storyWork = Promise.resolve();

/** Load the story of the gene that is chosen, once for every choice. */
function loadStory() {
  const key = `${state.gene} ${state.t}`;
  if (key !== storyKey) {
    storyKey = key;
    storyWork = readStory(state.gene, state.t);
  }
  return storyWork;
}

async function readStory(gene, wanted) {
  const rows = gene < 0 ? [] : await report.data.gene(gene);
  const shown = report.data.detailed.get(gene) || [];
  const tested = [...new Set(rows.map((row) => row.t))];
  const t =
    shown.includes(wanted) || (tested.includes(wanted) && !shown.length) ? wanted : [...shown, ...tested, wanted][0];
  const detail = gene < 0 ? null : await report.data.detail(t, gene);
  if (gene !== state.gene) return;
  Object.assign(story, { gene, rows, t, detail, group: 0 });
  if (detail && !(story.variable in detail.samples.variables)) story.variable = firstVariable(detail);
}

/** The variable by which donors are laid out first: a factor with at least two levels that a contrast names. */
function firstVariable(detail) {
  const names = Object.keys(detail.samples.variables);
  const levels = (name) => new Set(detail.samples.variables[name]).size;
  const text = report.meta.contrasts.map((contrast) => [contrast.expression].flat().join(" ")).join(" ");
  return (
    names.find((name) => text.includes(name) && levels(name) > 1) ||
    names.find((name) => levels(name) > 1) ||
    names[0] ||
    ""
  );
}

function geneSection() {
  const search = geneSearch("Choose a gene", (gene) => openGene(gene), "Gene name");
  const heading = el("h3", { class: "gene-name" });
  const words = el("div", { class: "words" });
  const donors = el("div", { class: "donors" });
  const figuresOfGene = [forestFigure(), donorsFigure(), caterpillarFigure()];
  const [forest, dots, caterpillar] = figuresOfGene;
  const components = el("div");
  const write = async () => {
    await loadStory();
    writeGene(heading, words);
    writeDonors(donors, dots, caterpillar, components);
    figuresOfGene.forEach((it) => it.refresh());
    if (document.activeElement !== search.input) search.input.value = story.gene < 0 ? "" : symbol(story.gene);
  };
  onChoice((changed) => changed.some((key) => key === "gene" || key === "t" || key === "c") && write());
  whenNear(words, write);
  onDonorChoice(() => (dots.refresh(), caterpillar.refresh()));
  return section(
    "gene",
    "One gene",
    "Search any gene that was tested, or click one in a plot or a table.",
    el("div", { class: "choices" }, el("label", { class: "choice wide" }, el("span", null, "Gene"), search.node)),
    heading,
    words,
    forest.node,
    donors,
  );
}

/** The heading and what the numbers say in words. */
function writeGene(heading, words) {
  const { gene, rows } = story;
  if (gene < 0) return;
  const name = report.data.genes[gene];
  fill(heading, symbol(gene), name !== symbol(gene) ? el("small", null, ` ${name}`) : null);
  if (!rows.length)
    return void fill(
      words,
      el("p", null, `${symbol(gene)} was in the input but in no cell type passed the filters, so it was not tested.`),
    );
  const sentences = report.meta.contrasts.map((_, c) => overviewOf(c, rows)).filter(Boolean);
  const here = rows.filter((row) => row.t === story.t && row.c === state.c);
  fill(
    words,
    sentences.length > 4
      ? sentences.slice(0, 4).map((text) => el("p", null, text))
      : sentences.map((text) => el("p", null, text)),
    here.length ? el("ul", { class: "flags" }, here.map(methodSentence)) : null,
  );
}

/** In how many cell types a contrast is called, for each method. */
function overviewOf(c, rows) {
  const parts = report.meta.methods
    .map((method, m) => {
      const mine = rows.filter((row) => row.c === c && row.m === m);
      if (!mine.length) return null;
      const called = mine.filter((row) => row.called);
      const up = called.filter((row) => row.log2fc > 0).length;
      const direction =
        called.length === 0
          ? ""
          : missing(called[0].log2fc)
            ? ""
            : up === called.length
              ? " (up)"
              : up === 0
                ? " (down)"
                : ` (${up} up, ${called.length - up} down)`;
      return `${called.length} of ${counted(mine.length, "cell type")}${direction} by ${method.name}`;
    })
    .filter(Boolean);
  return parts.length ? `${contrastName(c)}: called in ${listed(parts)}.` : "";
}

/** One method's result in words. */
function methodSentence(row) {
  const { meta } = report;
  const status = meta.statuses[row.status];
  const fine = status.name === "converged";
  const interval = `(95 % interval ${decimal(row.ci_low)} to ${decimal(row.ci_high)})`;
  const effect = missing(row.log2fc) ? "" : `${methodEffect(row.m)} ${decimal(row.log2fc)} ${interval}, `;
  const detail = story.detail && story.detail.effects.find((other) => other.c === row.c && other.m === row.m);
  const call = missing(row.padj) ? "without a test" : row.called ? "called" : "not called";
  const level = ["not_converged", "not_finite", "diverged"].includes(status.name)
    ? "warning"
    : row.called
      ? "good"
      : "note";
  const because =
    detail && detail.reason
      ? ` ${sentenceOf(detail.reason)}`
      : fine
        ? ""
        : ` Fit: ${status.name.replace("_", " ")}, ${status.help}.`;
  const test = `p\u00a0=\u00a0${pText(row.pvalue)}, false discovery rate ${pText(row.padj)}`;
  const stable =
    row.stable === 2
      ? " Without one of the donors it would not hold."
      : row.stable === 3
        ? " It cannot be estimated without one of the donors."
        : "";
  const disagree = row.disagree && row.m === 0 ? " The two methods disagree on it." : "";
  return flagged(
    level,
    `${cellTypeName(row.t)}, ${contrastName(row.c)}, ${methodName(row.m)}:`,
    `${effect}${test}: ${call}.${because}${stable}${disagree}`,
  );
}

/** Return a reason as a sentence of its own. */
const sentenceOf = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

const donorFollowers = [];
const onDonorChoice = (follower) => donorFollowers.push(follower);
const donorChoice = (change) => {
  Object.assign(story, change);
  donorFollowers.forEach((follower) => follower());
};

/** The part with donors: plots where their numbers are in the file, else how to get them. */
function writeDonors(holder, dots, caterpillar, components) {
  const { detail, gene, t } = story;
  if (gene < 0 || !story.rows.length) return void holder.replaceChildren();
  if (!detail) return void fill(holder, noDonors(gene));
  const many = Object.keys(detail.samples.variables);
  fill(
    holder,
    part(
      `Donors in ${cellTypeName(t)}`,
      "The test sees donors, not cells: an effect is believable if the donors of one arm lie apart from the others.",
      el(
        "div",
        { class: "choices" },
        cellTypesOfGene(gene),
        localSelect("Laid out by", many, story.variable, (variable) => donorChoice({ variable })),
        localSelect("Scale", ["logarithmic", "linear"], story.log ? "logarithmic" : "linear", (scale) =>
          donorChoice({ log: scale === "logarithmic" }),
        ),
        detail.groups.length > 1
          ? localSelect(
              "Random effect",
              detail.groups.map(groupName),
              groupName(detail.groups[story.group]),
              (name) => donorChoice({ group: detail.groups.map(groupName).indexOf(name) }),
            )
          : null,
      ),
      el("div", { class: "pair" }, dots.node, caterpillar.node),
      fill(components, variancesOfGene(detail)),
    ),
  );
}

const groupName = (group) => (group.effect === "(Intercept)" ? group.term : `${group.term}, ${group.effect}`);

function localSelect(label, options, value, pick) {
  if (options.length < 2) return null;
  const select = el(
    "select",
    { on: { change: () => pick(select.value) } },
    options.map((option) => el("option", { value: option }, option)),
  );
  select.value = value;
  return el("label", { class: "choice" }, el("span", null, label), select);
}

function noDonors(gene) {
  const command = report.meta.gene_hint.split("{gene}").join(geneKey(gene));
  const copy = button("Copy", () => copyText(command, copy), "small");
  return part(
    "Donors",
    "",
    el(
      "p",
      { class: "callout" },
      "To keep this file small, it has donors only for the leading genes of each contrast. For this gene, type ",
      el("code", null, command),
      " ",
      copy,
    ),
  );
}

/** Buttons for the cell types in which the file has the donors of this gene. */
function cellTypesOfGene(gene) {
  const types = report.data.detailed.get(gene) || [];
  if (types.length < 2) return null;
  return localSelect("Donors shown for", types.map(cellTypeName), cellTypeName(story.t), (name) =>
    choose({ t: types.find((t) => cellTypeName(t) === name) }),
  );
}

/** The variance components of both methods as a table with bars. */
function variancesOfGene(detail) {
  const rows = detail.variances;
  if (!rows.length) return null;
  const caption = `Variance components of ${symbol(story.gene)}`;
  const file = fileName(report.name, symbol(story.gene), "variances");
  return [
    el("h4", null, "Where the variance lies"),
    el(
      "p",
      { class: "sub" },
      "Variances on the natural log scale: 0.04 means that donors typically differ by 20 %, 0.5 by a factor of two.",
    ),
    grid({ caption, rows, columns: componentColumns(), file }).node,
  ];
}

function componentColumns() {
  const { columns } = report.meta;
  const number = (key, label, text) => numberColumn(label, (row) => row[key], text, { key, title: columns[key] });
  const share = (row) => shareBar(row.fraction);
  return [
    { label: "Component", value: (row) => componentTitle(row.m, row.component) },
    { label: "Method", value: (row) => methodName(row.m) },
    number("variance", "Variance", compact),
    intervalColumn(
      (row) => row.ci_low,
      (row) => row.ci_high,
    ),
    number("variance_reml", "As fitted", compact),
    number("pvalue", "p of zero", pText),
    { label: "Share", key: "fraction", title: columns.fraction, value: (row) => row.fraction, node: share },
  ];
}

function shareBar(share) {
  if (missing(share)) return "\u2013";
  const inner = el("span");
  inner.style.width = `${100 * Math.min(1, share)}%`;
  return el("span", { class: "share" }, el("span", { class: "track" }, inner), percent(share));
}
