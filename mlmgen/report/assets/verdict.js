// What the run found, in words that can be quoted.

const MARKS = { good: "\u2713", warning: "!", note: "i" };
const LEVELS = { good: "Fine", warning: "Warning", note: "Note" };

function verdictSection() {
  const { meta } = report;
  const { verdict } = meta;
  const quote = [
    verdict.headline,
    verdict.lead,
    ...verdict.sentences.map((sentence) => sentence.text),
    verdict.nothing,
  ]
    .filter(Boolean)
    .join(" ");
  return el(
    "section",
    { id: "verdict", "aria-labelledby": "verdict-heading" },
    el("p", { class: "eyebrow" }, meta.name),
    el("h1", { id: "verdict-heading", tabindex: "-1" }, prose(verdict.headline)),
    el("p", { class: "lead" }, prose(verdict.lead)),
    tiles(),
    verdict.nothing ? el("p", { class: "callout note" }, prose(verdict.nothing)) : null,
    foundPart(quote),
    auditPart(verdict),
    attentionPart(verdict),
  );
}

/** The numbers at the top. */
function tiles() {
  const { meta } = report;
  const fitted = fittedCellTypes();
  const cells = fitted.reduce((sum, t) => sum + (meta.cell_types[t].n_cells || 0), 0);
  const genes = Math.max(0, ...meta.counts.map((row) => row.tested));
  const tile = (n, text) => el("li", null, el("b", null, whole(n)), el("span", null, text));
  return el(
    "ul",
    { class: "tiles" },
    tile(meta.design.donors.length, meta.design.donors.length === 1 ? "donor" : "donors"),
    tile(cells, "cells analysed"),
    tile(fitted.length, fitted.length === 1 ? "cell type tested" : `cell types tested${skippedText()}`),
    tile(meta.contrasts.length, meta.contrasts.length === 1 ? "contrast" : "contrasts"),
    tile(genes, "genes tested, at most, in a cell type"),
  );
}

function skippedText() {
  const skipped = report.meta.cell_types.filter((row) => row.skipped).length;
  return skipped ? `, ${skipped} skipped` : "";
}

function foundPart(quote) {
  const { meta } = report;
  if (!meta.counts.length) return null;
  const copy = button("Copy the verdict as text", () => copyText(quote, copy), "small");
  const sentences = meta.verdict.sentences.map((sentence) => el("li", null, prose(sentence.text)));
  const many = sentences.length > 6;
  const list = el("ul", { class: "sentences" }, sentences);
  return part(
    "Discoveries",
    `Genes called at ${percent(meta.fdr)} false discoveries (${meta.fdr_name} within each cell type, contrast and ` +
      "method). A bar to the right (\u25b2) counts genes that go up in the contrast, one to the left (\u25bc) down.",
    choices("c"),
    discoveriesTable(),
    meta.contrasts.length > 1 ? contrastMatrix() : null,
    sentences.length
      ? many
        ? el("details", { class: "prints" }, el("summary", null, `In words (${sentences.length} sentences)`), list)
        : list
      : null,
    el("p", null, copy),
  );
}

/** Cell types as rows, with a bar for each method. */
function discoveriesTable() {
  const holder = el("div");
  const write = () => {
    const caption = `Discoveries per cell type, ${contrastName(state.c)}`;
    const sort = { column: 3, descending: true };
    const file = fileName(report.name, contrastName(state.c), "discoveries");
    fill(holder, grid({ caption, rows: fittedCellTypes(), page: 30, columns: discoveryColumns(), sort, file }).node);
  };
  onChoice((changed) => changed.includes("c") && write());
  write();
  return holder;
}

function discoveryColumns() {
  const { meta } = report;
  const here = meta.counts.filter((row) => row.c === state.c);
  const most = Math.max(1, ...here.map((row) => (row.up === null ? row.called : Math.max(row.up, row.down))));
  const both = (t) => (meta.agreement.find((row) => row.t === t && row.c === state.c) || {}).both;
  const ofMethod = (method, m) => ({
    label: method.title,
    descending: true,
    value: (t) => (countsOf(t, state.c, m) || {}).called,
    node: (t) => bars(countsOf(t, state.c, m), most),
    tsv: ["tested", "called", "up", "down"].map((key) => [
      `${key}_${method.key}`,
      (t) => (countsOf(t, state.c, m) || {})[key],
    ]),
  });
  return [
    { label: "Cell type", value: cellTypeName, node: (t) => showLink(t, state.c) },
    numberColumn("Donors", (t) => meta.cell_types[t].n_donors, whole),
    numberColumn("Cells", (t) => meta.cell_types[t].n_cells, whole),
    ...meta.methods.map(ofMethod),
    ...(meta.agreement.length ? [numberColumn("Both", both, whole, { title: "Called by both methods" })] : []),
  ];
}

/** Return a link to the results of a cell type and contrast. */
function showLink(t, c, text = cellTypeName(t)) {
  return el("a", { href: "#results", on: { click: () => choose({ t, c }) } }, text);
}

function bars(row, most) {
  if (!row) return el("span", { class: "faint" }, "not tested");
  const width = (n) => `calc((100% - 62px) * ${n / most})`;
  const label =
    row.up === null
      ? `${row.called} of ${row.tested} genes`
      : `${row.up} up, ${row.down} down, of ${row.tested} genes`;
  if (row.up === null) return el("span", { class: "bars joint", title: label }, el("b", null, whole(row.called)));
  const bar = (n, name) => {
    const node = el("span", { class: `bar-${name}` });
    node.style.width = width(n);
    return node;
  };
  return el(
    "span",
    { class: "bars", title: label },
    el(
      "span",
      { class: "left" },
      el("span", { class: "count" }, "\u25bc\u2009", whole(row.down)),
      bar(row.down, "down"),
    ),
    el("span", { class: "right" }, bar(row.up, "up"), el("span", { class: "count" }, "\u25b2\u2009", whole(row.up))),
  );
}

/** Cell types by contrasts, darker where more was found. */
function contrastMatrix() {
  const { contrasts, methods } = report.meta;
  const holder = el("div");
  const write = () => {
    const file = fileName(report.name, "discoveries by contrast", methods[state.m].key);
    const caption = "Discoveries per cell type and contrast";
    fill(holder, grid({ caption, rows: fittedCellTypes(), columns: contrastColumns(), page: 30, file }).node);
  };
  onChoice((changed) => changed.includes("m") && write());
  write();
  const all = contrasts.length === 2 ? "Both" : `All ${contrasts.length}`;
  return el(
    "details",
    { class: "prints" },
    el("summary", null, `${all} contrasts side by side`),
    choices("m"),
    holder,
  );
}

function contrastColumns() {
  const { contrasts, counts } = report.meta;
  const most = Math.max(1, ...counts.map((row) => (row.m === state.m ? row.called : 0)));
  const ofContrast = (contrast, c) => ({
    ...numberColumn(contrast.name, (t) => (countsOf(t, c, state.m) || {}).called, whole),
    title: [contrast.expression].flat().join("; "),
    node: (t) => shaded(countsOf(t, c, state.m), most, t, c),
  });
  return [{ label: "Cell type", value: cellTypeName }, ...contrasts.map(ofContrast)];
}

function shaded(row, most, t, c) {
  if (!row) return el("span", { class: "faint" }, "\u2013");
  const node = el("span", { class: "shaded" }, showLink(t, c, whole(row.called)));
  node.style.setProperty("--share", String(Math.sqrt(row.called / most)));
  return node;
}

/** A sentence with a mark that says in sign and words how serious it is. */
function flagged(level, title, text, after) {
  return el(
    "li",
    { class: `flag ${level}` },
    el("span", { class: "sign", "aria-hidden": "true" }, MARKS[level] || "i"),
    el(
      "div",
      null,
      el("strong", null, el("span", { class: "away" }, `${LEVELS[level] || "Note"}: `), title),
      title && text ? " " : null,
      prose(text),
      after,
    ),
  );
}

function auditPart(verdict) {
  const lead =
    "The audit gives the cells' own labels to other donors at random and tests again: there, every discovery is false.";
  if (!verdict.audit.length)
    return verdict.audit_hint
      ? part("Do the p-values hold?", lead, el("p", { class: "callout" }, prose(verdict.audit_hint)))
      : null;
  return part(
    "Do the p-values hold?",
    lead,
    el(
      "ul",
      { class: "flags" },
      verdict.audit.map((row) => flagged(row.level, "", row.text)),
    ),
  );
}

function attentionPart(verdict) {
  const order = { warning: 0, note: 1 };
  const rows = [...verdict.attention].sort((a, b) => order[a.level] - order[b.level]);
  if (!rows.length)
    return part(
      "What needs attention",
      "",
      el(
        "ul",
        { class: "flags" },
        flagged("good", "", "Nothing stood out in the design, the fits or the comparison of methods."),
      ),
    );
  const shownFirst = rows.slice(0, 8).map(attentionItem);
  const others = rows.slice(8).map(attentionItem);
  return part(
    "What needs attention",
    "Warnings can change what you conclude; notes are good to know.",
    el("ul", { class: "flags" }, shownFirst),
    others.length
      ? el(
          "details",
          { class: "prints" },
          el("summary", null, `${others.length} more`),
          el("ul", { class: "flags" }, others),
        )
      : null,
  );
}

function attentionItem(row) {
  const where =
    missing(row.t) || missing(row.c) || !countsOf(row.t, row.c, state.m)
      ? null
      : [" ", showLink(row.t, row.c, "Show the results")];
  return flagged(row.level, row.title, row.text, where);
}
