// Where the mixed model of the cells and pseudobulk differ.

function agreementPart() {
  const [agreement, reasons] = [agreementFigure(), reasonsFigure()];
  onChoice(
    (changed) => changed.some((key) => key === "t" || key === "c") && (agreement.refresh(), reasons.refresh()),
  );
  return part(
    "Do the two methods agree?",
    "The mixed model of the cells and pseudobulk see the same data in different ways; most effects should be the same.",
    el("div", { class: "pair" }, agreement.node, reasons.node),
    disagreementTable(),
  );
}

/** Effects of both methods, joined by gene: {x: pseudobulk, y: cells, gene, first, second (called), disagree}. */
const joined = { rows: [] };

async function loadJoined() {
  const [t, c] = [state.t, state.c];
  const [first, second] = await Promise.all([0, 1].map((m) => report.data.effects(t, c, m)));
  if (t !== state.t || c !== state.c) return;
  joined.rows = [];
  if (!first || !second) return;
  const place = new Map();
  second.gene.forEach((gene, i) => place.set(gene, i));
  first.gene.forEach((gene, i) => {
    const k = place.get(gene);
    if (k === undefined || !Number.isFinite(first.log2fc[i]) || !Number.isFinite(second.log2fc[k])) return;
    const called = { first: first.called[i], second: second.called[k], disagree: first.disagree[i] };
    joined.rows.push({ x: second.log2fc[k], y: first.log2fc[i], gene, ...called });
  });
}

const agreementNow = () => report.meta.agreement.find((row) => row.t === state.t && row.c === state.c);

function agreementFigure() {
  const words = (now) => {
    const only = [0, 1].map((m) => `by ${methodName(m)} only: ${whole(now.only[m])}`);
    return `Called by both: ${whole(now.both)}, ${only.join(", ")}. They disagree on ${whole(now.disagree)}.`;
  };
  return figure({
    title: "Effects of both methods",
    how: HOW.agreement,
    height: 380,
    zoom: "xy",
    load: loadJoined,
    empty: "There are no effects of both methods for this choice.",
    option: agreementOption,
    label: () =>
      agreementNow() ? `Effects of both methods, ${chosen("t", "c")}. ${words(agreementNow())}` : "No plot.",
    note: () => (agreementNow() ? `${words(agreementNow())}${onTwoScales()}` : null),
    table: () => ({ rows: joined.rows, columns: agreementColumns() }),
    click: (at) => at.data && at.data.row && openGene(at.data.row.gene, { t: state.t, c: state.c }),
  });
}

/** Say where effects cannot be the same numbers. */
const onTwoScales = () =>
  sameEffects() ? "" : ` The effects are on two scales, ${effectsOfMethods()}: points need not lie on the diagonal.`;

function agreementColumns() {
  const word = (row) =>
    row.first && row.second ? "both" : row.first ? methodName(0) : row.second ? methodName(1) : "";
  return [
    {
      label: "Gene",
      value: (row) => symbol(row.gene),
      node: (row) => geneLink(row.gene, { t: state.t, c: state.c }),
    },
    numberColumn(`Effect by ${methodName(0)}`, (row) => row.y, decimal),
    numberColumn(`Effect by ${methodName(1)}`, (row) => row.x, decimal),
    { label: "Called by", value: word, text: (row) => word(row) || "\u2013" },
    { label: "Disagree", value: (row) => (row.disagree ? "yes" : "no") },
  ];
}

/** Return groups of genes: name, which, and the look of their points. */
function agreementGroups() {
  const c = colours();
  return [
    [
      "called by neither",
      (row) => !row.disagree && !row.first && !row.second,
      { fill: c.neutral, size: 4, opacity: 0.4 },
    ],
    [
      "called by both",
      (row) => !row.disagree && row.first && row.second,
      { fill: c.series[2], size: 6, opacity: 0.75 },
    ],
    [
      "called by one",
      (row) => !row.disagree && row.first !== row.second,
      { fill: c.first, symbol: "triangle", size: 7, opacity: 0.8 },
    ],
    ["methods disagree", (row) => row.disagree, { fill: c.second, symbol: CROSS, size: 8, opacity: 0.9 }],
  ];
}

function agreementOption() {
  const { rows } = joined;
  if (!rows.length) return null;
  const sizes = rows.map((row) => Math.max(Math.abs(row.x), Math.abs(row.y))).sort((a, b) => a - b);
  const limit = Math.max(0.2, sizes[Math.floor(0.998 * (sizes.length - 1))] * 1.1);
  const inside = (value) => Math.max(-limit, Math.min(limit, value));
  const at = (row) => ({ value: [inside(row.x), inside(row.y)], row });
  const groups = agreementGroups();
  const both = (row) => [row.y, row.x].map((effect, m) => [methodTitle(m), decimal(effect)]);
  const tipOf = ({ row }, name) => tip(symbol(row.gene), both(row), name);
  const shares = (m, more) => fixedAxis(`effect by ${methodName(m)}`, -limit * 1.04, limit * 1.04, more);
  return frame({
    legend: legend(
      groups.map(([name]) => name),
      { itemGap: 8 },
    ),
    grid: { left: 58, right: 14, top: narrow() ? 52 : 34, bottom: 48 },
    xAxis: shares(1),
    yAxis: shares(0, { nameGap: 40 }),
    tooltip: { formatter: (hit) => (hit.data && hit.data.row ? tipOf(hit.data, hit.seriesName) : "") },
    series: [
      ...groups.map(([name, test, look]) => points(name, rows.filter(test).map(at), look)),
      diagonal(-limit, limit),
    ],
  });
}

function reasonsFigure() {
  const { kinds, counts } = report.meta.trust.disagreements;
  const rows = () => ofChoice(counts).sort((a, b) => a.n - b.n);
  return figure({
    title: "Why they disagree",
    how: HOW.reasons,
    height: () => 50 + 40 * Math.max(2, rows().length),
    empty: "The methods disagree on no gene here.",
    label: () => `Reasons for which the methods disagree, ${chosen("t", "c")}. The numbers are in the table below.`,
    option: () => reasonsOption(rows(), kinds),
    table: () => ({
      rows: rows().reverse(),
      columns: [{ label: "Reason", value: (row) => kinds[row.kind] }, numberColumn("Genes", (row) => row.n, whole)],
    }),
  });
}

function reasonsOption(rows, kinds) {
  if (!rows.length) return null;
  const c = colours();
  const label = { show: true, position: "right", color: c.ink };
  const data = rows.map((row) => row.n);
  return frame({
    grid: namedBox({ top: 4, right: 34, bottom: 8 }),
    xAxis: { type: "value", show: false },
    yAxis: namesAxis(
      rows.map((row) => kinds[row.kind]),
      { most: 34, size: 12 },
    ),
    tooltip: { formatter: (at) => tip(counted(at.value, "gene"), [], at.name) },
    series: [{ type: "bar", data, barMaxWidth: 16, barMinHeight: 2, itemStyle: { color: c.second }, label }],
  });
}

function disagreementTable() {
  const { reasons, rows } = report.meta.trust.disagreements;
  const holder = el("div");
  const columns = [
    { label: "Gene", value: (row) => symbol(row.gene), node: (row) => geneLink(row.gene, { t: row.t, c: row.c }) },
    numberColumn("Difference", (row) => row.difference, decimal, { title: report.meta.columns.difference }),
    { label: "Why", value: (row) => reasons[row.reason] },
  ];
  const write = () => {
    const mine = ofChoice(rows);
    const file = fileName(report.name, cellTypeName(state.t), contrastName(state.c), "disagreements");
    const table = () =>
      grid({ caption: `Disagreements, ${chosen("t", "c")}`, rows: mine, page: 10, file, columns }).node;
    const first = mine.length >= 30 ? " (the first 30)" : "";
    fill(
      holder,
      mine.length ? el("details", null, el("summary", null, `Genes on which they disagree${first}`), table()) : null,
    );
  };
  onChoice((changed) => changed.some((key) => key === "t" || key === "c") && write());
  write();
  return holder;
}
