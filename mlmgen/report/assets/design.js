// Who was compared with whom: cells per donor, covariates, contrasts.

function designSection() {
  const { meta } = report;
  const { design } = meta;
  return section(
    "design",
    "Design",
    "Donors are the replicates. How many there are in each arm, and how many cells each gives, decides what can be " +
      "found.",
    part(
      "Contrasts",
      "A contrast within donors compares each donor with itself; one between donors compares different people, and " +
        "needs more of them.",
      contrastsTable(),
      design.detectable ? el("p", { class: "callout" }, prose(design.detectable)) : null,
    ),
    part(
      "Cells per donor and cell type",
      "Darker means more cells. White is none; a cross marks donors left out because they had too few.",
      cellsFigure().node,
    ),
    leftOutTable(),
    skippedTable(),
    covariatesPart(),
    samplesPart(),
  );
}

function contrastsTable() {
  const { columns: meaning, design } = report.meta;
  const text = (key, label, more) => ({ label, value: (row) => row[key], title: meaning[key], ...more });
  const number = (key, label, write) => numberColumn(label, (row) => row[key], write, { title: meaning[key] });
  const columns = [
    text("cell_type", "Cell type"),
    text("contrast", "Contrast"),
    text("comparison", "Compares"),
    text("arms", "Arms", { wide: true, value: (row) => row.arms_text || row.arms }),
    number("n_donors", "Donors"),
    number("n_donors_smallest", "Smallest arm"),
    number("df", "Degrees of freedom"),
    number("lfc_detectable", "Detectable effect", decimal),
    number("power_twofold", "Power at twofold", percent),
    ...(design.contrasts.some((row) => row.warning) ? [text("warning", "Warning", { wide: true })] : []),
  ];
  const file = fileName(report.name, "design");
  return grid({ caption: "What each contrast compares", rows: design.contrasts, columns, page: 12, file }).node;
}

function cellsFigure() {
  const { design, cell_types: types } = report.meta;
  const n = design.donors.length;
  const ofType = types.map((type, t) => numberColumn(type.name, (d) => design.cells[d][t], whole));
  const columns = [{ label: "Donor", value: (d) => design.donors[d] }, ...ofType];
  return figure({
    title: "Cells analysed",
    file: "cells per donor",
    how: HOW.cells,
    height: () => (types.length > 8 ? 170 : 90) + Math.min(700, n * (n > 60 ? 8 : 22)),
    label: () =>
      `Heatmap of the cells of ${n} donors in ${types.length} cell types. The numbers are in the table below.`,
    option: () => (n && types.length ? cellsOption(design, types) : null),
    table: () => ({ rows: design.donors.map((_, d) => d), page: 50, columns }),
  });
}

function cellsOption(design, types) {
  const c = colours();
  const many = design.donors.length > 60;
  const dense = types.length > 8;
  const log = (row, d) => row.map((n, t) => [t, d, n > 0 ? Math.log10(n) : -1]);
  const values = design.cells.flatMap(log).filter((cell) => cell[2] >= 0);
  const crosses = design.left_out.map((row) => [row.t, design.donors.indexOf(row.donor)]);
  const names = types.map((type) => type.name);
  const hidden = design.donors.length > 100;
  return frame({
    grid: { left: 8, right: 8, top: 8, bottom: 44, outerBoundsMode: "same" },
    xAxis: namesAxis(names, { most: dense ? 22 : 16, rotate: dense ? 60 : 0 }),
    yAxis: namesAxis(design.donors, { most: 18, size: many ? 9 : 11, hidden, inverse: true }),
    visualMap: cellsScale(Math.max(1, ...values.map((value) => value[2]))),
    tooltip: { formatter: (at) => cellsTip(at.value, design, types) },
    series: [
      { type: "heatmap", data: values, itemStyle: { borderColor: c.paper, borderWidth: many ? 0 : 1 } },
      points("left out", crosses, { symbol: CROSS, size: many ? 5 : 9, fill: c.up }),
    ],
  });
}

/** The colours of the numbers of cells up to the largest, a logarithm. */
function cellsScale(largest) {
  const c = colours();
  const text = [`${whole(10 ** largest)} cells`, "1"];
  const place = { orient: "horizontal", left: "center", bottom: 0, itemHeight: 130, itemWidth: 10 };
  const looks = { text, textStyle: { color: c.soft }, inRange: { color: c.heat } };
  return { ...place, ...looks, min: 0, max: largest, calculable: false, dimension: 2, seriesIndex: 0 };
}

function cellsTip([t, d], design, types) {
  const out = design.left_out.find((row) => row.t === t && row.donor === design.donors[d]);
  const n = out ? out.n_cells : design.cells[d][t];
  const rows = Object.entries({ "Cell type": types[t].name, Cells: whole(n) });
  return tip(design.donors[d], rows, out ? `Left out: ${out.why}` : "");
}

function leftOutTable() {
  const rows = report.meta.design.left_out;
  if (!rows.length) return null;
  const columns = [
    { label: "Donor", value: (row) => row.donor },
    { label: "Cell type", value: (row) => cellTypeName(row.t) },
    { label: "Cells", numeric: true, value: (row) => row.n_cells, text: (row) => whole(row.n_cells) },
    { label: "Why", value: (row) => row.why },
  ];
  const summary =
    rows.length === 1
      ? "1 donor was left out of a cell type"
      : `${rows.length} times a donor was left out of a cell type`;
  const table = grid({
    caption: "Donors left out",
    rows,
    columns,
    page: 15,
    file: fileName(report.name, "left out"),
  });
  return el("details", { class: "prints" }, el("summary", null, summary), table.node);
}

function skippedTable() {
  const rows = report.meta.cell_types.filter((row) => row.skipped);
  if (!rows.length) return null;
  return el(
    "details",
    { class: "prints", open: rows.length < 6 },
    el("summary", null, `${counted(rows.length, "cell type")} skipped`),
    plainTable(
      "Skipped cell types",
      ["Cell type", "Cells", "Why"],
      rows.map((row) => [row.name, row.n_cells, row.skipped]),
    ),
  );
}

function covariatesPart() {
  const { covariates, donors } = report.meta.design;
  if (!covariates || !covariates.columns.length) return null;
  const show = (value) => (Array.isArray(value) ? value.map((end) => shown(end)).join(" to ") : shown(value));
  const columns = [
    { label: "Donor", value: (d) => donors[d] },
    ...covariates.columns.map((column, i) => ({
      label: column.name,
      title: `${column.kind === "number" ? "A number" : "A factor"} that varies ${column.varies}.`,
      numeric: column.kind === "number",
      value: (d) => (Array.isArray(covariates.rows[d][i]) ? covariates.rows[d][i][0] : covariates.rows[d][i]),
      text: (d) => show(covariates.rows[d][i]),
    })),
  ];
  const kinds = covariates.columns.map((column) => `\`${column.name}\` varies ${column.varies}`);
  return part(
    "Donors and their covariates",
    `${listed(kinds)}.`,
    grid({
      caption: "Covariates of each donor",
      rows: donors.map((_, d) => d),
      columns,
      page: 10,
      file: fileName(report.name, "donors"),
    }).node,
  );
}

function samplesPart() {
  const { samples } = report.meta.design;
  if (!samples || !samples.rows.length) return null;
  const columns = (
    samples.columns.length === samples.rows[0].length ? samples.columns : ["Donor", "Sample", ...samples.columns]
  ).map((label, i) => ({
    label,
    value: (row) => row[i],
    numeric: samples.rows.some((row) => typeof row[i] === "number"),
  }));
  return el(
    "details",
    null,
    el("summary", null, `All ${counted(samples.rows.length, "sample")}`),
    grid({ caption: "Samples", rows: samples.rows, columns, page: 15, file: fileName(report.name, "samples") }).node,
  );
}
