// Shares of variance: within groups of each factor, and by component.

const iccNow = () => (spread.of ? spread.of.icc || [] : []);

function iccFigure() {
  const medians = () => iccNow().map((row) => `${percent(row.median, 1)} in ${iccName(row)}`);
  return figure({
    title: "How alike cells of the same group are (ICC)",
    how: HOW.icc,
    height: 320,
    load: loadSpread,
    option: iccOption,
    empty: "There are no random effects here, and so no intraclass correlations.",
    label: () =>
      `Histogram of the intraclass correlation over genes, ${chosen("t")}. The numbers are in the table below.`,
    note: () => (medians().length ? `Median gene: ${listed(medians())}.` : null),
    table: () => iccNow().length && { rows: iccNow()[0].counts.map((_, i) => i), columns: iccColumns(iccNow()) },
  });
}

/** A factor, and of what it groups where that is not cells. */
const iccName = (row) => {
  const { key } = report.meta.methods[row.m];
  return key === "pseudobulk" ? `${row.level}, of sums per sample` : row.level;
};

function iccColumns(rows) {
  const counts = rows.map((row) => numberColumn(`Genes, ${iccName(row)}`, (i) => row.counts[i], whole));
  return [numberColumn("Share from", (i) => rows[0].edges[i], decimal), ...counts];
}

function iccOption() {
  const rows = iccNow();
  if (!rows.length) return null;
  const steps = (row) =>
    row.counts.flatMap((n, i) => [
      [row.edges[i], n],
      [row.edges[i + 1], n],
    ]);
  const formatter = (items) => {
    const counts = items.map((item) => [item.seriesName, `${whole(item.value[1])} genes`]);
    return tip(`Share ${decimal(items[0].value[0])}`, counts);
  };
  return frame({
    legend: legend(rows.map(iccName)),
    grid: { left: 60, right: 16, top: 30, bottom: 48 },
    xAxis: axis("intraclass correlation", { type: "value", min: 0, max: lastFilled(rows) }),
    yAxis: axis("genes", { type: "value", scale: false, nameGap: 44 }),
    tooltip: { trigger: "axis", formatter },
    series: rows.map((row, i) => ({
      name: iccName(row),
      type: "line",
      data: steps(row),
      symbol: "none",
      lineStyle: { width: 1.6, color: seriesColour(i), type: row.m ? "dashed" : "solid" },
      itemStyle: { color: seriesColour(i) },
      areaStyle: { color: seriesColour(i), opacity: row.m ? 0 : 0.18 },
    })),
  });
}

/** The end of the last bin with genes, for an axis without an empty half. */
function lastFilled(rows) {
  const lastOf = (row) => row.edges[row.counts.reduce((place, n, i) => (n > 0 ? i + 1 : place), 1)];
  const last = Math.max(...rows.map(lastOf));
  return last > 0.8 ? 1 : last;
}

function violinFigure() {
  const rows = () => report.meta.variance.summary.filter((row) => row.t === state.t && row.m === state.m);
  const component = { label: "Component", value: (row) => componentTitle(row.m, row.component) };
  return figure({
    title: "Variance partition",
    how: HOW.violins,
    height: 320,
    load: loadSpread,
    option: violinOption,
    empty: "No shares of variance were computed here.",
    label: () =>
      `Violins of the share of variance of each component, ${chosen("t", "m")}. The numbers are in the table below.`,
    table: () => ({ rows: rows(), columns: [component, ...summaryColumns()] }),
  });
}

function violinOption() {
  const rows = componentsNow().filter((row) => row.histogram && row.histogram.counts.some((n) => n > 0));
  if (!rows.length) return null;
  const c = colours();
  const mine = report.meta.variance.summary.filter((row) => row.t === state.t && row.m === state.m);
  const medians = rows.map((row) => (mine.find((other) => other.component === row.component) || {}).median_fraction);
  const places = medians.map((value, i) => [i, value]);
  const names = rows.map((row) => componentTitle(row.m, row.component));
  const label = { color: c.ink, fontSize: 11, interval: 0, width: 110, overflow: "break", lineHeight: 14 };
  const renderItem = (params, api) => violin(rows[api.value(0)].histogram, api.value(0), api);
  const numbersOfType = (i) => Object.entries({ "Median share": percent(medians[i], 1), Genes: whole(rows[i].n) });
  return frame({
    grid: { left: 56, right: 12, top: 14, bottom: 66 },
    xAxis: { ...namesAxis(names), axisLine: { lineStyle: { color: c.line } }, axisLabel: label },
    yAxis: axis("share of variance", {
      type: "value",
      min: 0,
      max: 1,
      nameGap: 40,
      axisLabel: { ...axis().axisLabel, formatter: (value) => percent(value) },
    }),
    tooltip: { formatter: (at) => tip(names[at.dataIndex], numbersOfType(at.dataIndex)) },
    series: [
      { type: "custom", data: rows.map((_, i) => [i, 0]), encode: { x: 0 }, renderItem },
      points("median", places, { size: 8, fill: c.paper, edge: c.ink, silent: true, z: 5 }),
    ],
  });
}

/** Return the outline of a violin around the i-th place. */
function violin({ edges, counts }, i, api) {
  const smooth = counts.map((n, k) => (n + (counts[k - 1] || 0) * 0.5 + (counts[k + 1] || 0) * 0.5) / 2);
  const most = Math.max(...smooth);
  const half = api.size([1, 0])[0] * 0.4;
  const side = (sign) =>
    smooth.map((n, k) => {
      const [x, y] = api.coord([i, (edges[k] + edges[k + 1]) / 2]);
      return [x + sign * half * (n / most), y];
    });
  const style = { fill: seriesColour(i), opacity: 0.55, stroke: seriesColour(i), lineWidth: 1 };
  return { type: "polygon", shape: { points: [...side(1), ...side(-1).reverse()] }, style };
}
