// Volcano and MA plot: what is called as points, the rest as points where there are few of them, else as their density.

const MOST_POINTS = 3000;
const BINS = [96, 64];
const ALONE = 2; // points of a bin that are drawn one by one

/** The effects of the chosen cell type, contrast and method; null where nothing was tested. */
const current = { key: "", effects: null };

async function loadCurrent() {
  const key = [state.t, state.c, state.m].join(" ");
  const effects = await report.data.effects(state.t, state.c, state.m);
  Object.assign(current, { key, effects });
}

/** What the two clouds have on their axes: x(effects, row), y(effects, row), the names, and how ticks are written. */
const VOLCANO = {
  title: "Volcano plot",
  x: (e, i) => e.log2fc[i],
  y: (e, i) => minusLog10(e.pvalue[i]),
  xName: () => effectName(),
  yName: () => "\u2212log10 of the p-value",
  limit: "x",
};
const MA = {
  title: "Effect against mean (MA plot)",
  x: (e, i) => Math.log10(Math.max(e.mean_count[i], 1e-6)),
  y: (e, i) => e.log2fc[i],
  xName: () => "mean count per cell (logarithmic)",
  yName: () => effectName(),
  limit: "y",
  logX: true,
};

const minusLog10 = (p) => (p > 0 ? -Math.log10(p) : 308);
const effectName = () => [methodEffect(state.m), report.meta.contrasts[state.c].unit].filter(Boolean).join(" ");

/** Return where the effects axis ends: at all called effects and 99.8 % of the others, unless some are far out. */
function effectLimit(effects) {
  const size = (i) => Math.abs(effects.log2fc[i]);
  const rows = Array.from(effects.log2fc.keys()).filter((i) => Number.isFinite(effects.log2fc[i]));
  const sizes = Float64Array.from(rows, size).sort();
  if (!sizes.length) return 1;
  const usual = sizes[Math.floor(0.998 * (sizes.length - 1))];
  const called = rows.reduce((most, i) => (effects.called[i] ? Math.max(most, size(i)) : most), 0);
  const largest = sizes[sizes.length - 1];
  return Math.max(0.2, largest < 1.5 * usual ? largest : Math.max(usual * 1.1, Math.min(called, 3 * usual))) * 1.02;
}

/** Return {points: [[x, y, row], ...], beyond} with effects beyond the limit put on the edge. */
function cloudPoints(effects, axes) {
  const limit = effectLimit(effects);
  const points = [];
  let beyond = 0;
  for (let i = 0; i < effects.n; i += 1) {
    let [x, y] = [axes.x(effects, i), axes.y(effects, i)];
    if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
    const value = axes.limit === "x" ? x : y;
    if (Math.abs(value) > limit) {
      beyond += 1;
      if (axes.limit === "x") x = Math.sign(x) * limit;
      else y = Math.sign(y) * limit;
    }
    points.push([x, y, i]);
  }
  return { points, beyond, limit };
}

/** Return the ends of both axes. */
function cloudWindow(cloud, axes) {
  const [xs, ys] = [cloud.points.map((point) => point[0]), cloud.points.map((point) => point[1])];
  const span = (values) => [
    values.reduce((a, b) => Math.min(a, b), Infinity),
    values.reduce((a, b) => Math.max(a, b), -Infinity),
  ];
  const effect = [-cloud.limit * 1.05, cloud.limit * 1.05];
  if (axes.limit === "x") return [...effect, 0, Math.max(2, span(ys)[1] * 1.06)];
  const [low, high] = span(xs);
  const pad = Math.max(0.1, (high - low) * 0.04);
  return [low - pad, high + pad, ...effect];
}

/**
 * Return the points of a window that are not called: as points if they are few; else where they are close to each other
 * as bins [x0, x1, y0, y1, n], and as points where they stand alone.
 */
function background(rest, [x0, x1, y0, y1]) {
  const inside = rest.filter(([x, y]) => x >= x0 && x <= x1 && y >= y0 && y <= y1);
  if (inside.length <= MOST_POINTS) return { points: inside, bins: [] };
  const [nx, ny] = BINS;
  const [dx, dy] = [(x1 - x0) / nx, (y1 - y0) / ny];
  const found = new Map();
  for (const point of inside) {
    const [i, k] = [Math.floor((point[0] - x0) / dx), Math.floor((point[1] - y0) / dy)];
    const bin = Math.min(nx - 1, i) * ny + Math.min(ny - 1, k);
    if (found.has(bin)) found.get(bin).push(point);
    else found.set(bin, [point]);
  }
  const [alone, bins] = [[], []];
  for (const [bin, members] of found) {
    if (members.length <= ALONE) alone.push(...members);
    const [left, low] = [x0 + Math.floor(bin / ny) * dx, y0 + (bin % ny) * dy];
    if (members.length > ALONE) bins.push([left, left + dx, low, low + dy, members.length]);
  }
  return { points: alone, bins };
}

/** Return a figure of a cloud; a click on a point opens its gene. */
function cloudFigure(axes, how) {
  const it = { cloud: null, rest: [], window: null };
  const rowOf = (data) => (data.value ? data.value[2] : data[2]);
  const open = (row) => openGene(current.effects.gene[row], { t: state.t, c: state.c });
  return figure({
    title: axes.title,
    how,
    height: 430,
    zoom: "xy",
    load: loadCurrent,
    option: () => cloudOption(it, axes),
    zoomed: (chart) => requestAnimationFrame(() => redrawBackground(it, chart)),
    label: () => cloudLabel(axes),
    note: () => cloudNote(it),
    empty: nothingToShow,
    click: (at) => at.data && at.seriesId !== "bins" && open(rowOf(at.data)),
  });
}

function nothingToShow() {
  if (!current.effects) return "This contrast was not tested in this cell type with this method.";
  return (
    "This contrast is a joint test of several coefficients: it has a p-value and no single effect to draw. The table " +
    "below has every gene."
  );
}

function cloudLabel(axes) {
  const row = countsOf(state.t, state.c, state.m);
  if (!row) return `${axes.title}: nothing to draw.`;
  const sides = `${row.called} called, ${row.up} up and ${row.down} down`;
  return `${axes.title} of ${row.tested} genes, ${chosen("t", "c", "m")}: ${sides}. The table below lists them all.`;
}

function cloudNote(it) {
  if (!it.cloud) return null;
  const { beyond } = it.cloud;
  const dense = it.rest.length > MOST_POINTS;
  return [
    FINGERS
      ? "Tap a gene to open it."
      : "Drag a box to zoom, double-click to see everything, click a gene to open it.",
    dense ? "The grey area is the density of the other genes; zoom in to see them one by one." : "",
    beyond ? `Drawn at the edge: ${counted(beyond, "gene")} with larger effects, mostly of few counts.` : "",
  ].join(" ");
}

function cloudOption(it, axes) {
  const { effects } = current;
  it.cloud = null;
  if (!effects || !effects.n) return null;
  const cloud = cloudPoints(effects, axes);
  if (!cloud.points.length) return null;
  const called = cloud.points.filter((point) => effects.called[point[2]]);
  const rest = cloud.points.filter((point) => !effects.called[point[2]]);
  Object.assign(it, { cloud, rest, window: cloudWindow(cloud, axes) });
  const [x0, x1, y0, y1] = it.window;
  return frame({
    grid: { left: 58, right: 18, top: 18, bottom: 46 },
    xAxis: axes.logX ? logAxis(axes.xName(), x0, x1) : fixedAxis(axes.xName(), x0, x1),
    yAxis: fixedAxis(axes.yName(), y0, y1, { nameGap: 40, axisLabel: { ...innerLabels(), showMinLabel: y0 === 0 } }),
    tooltip: { formatter: cloudTip },
    series: [
      ...backgroundSeries(background(it.rest, it.window)),
      ...calledSeries(effects, called),
      ...selectedSeries(effects, cloud.points, called),
      axes === MA ? rules([{ yAxis: 0 }]) : rules([{ xAxis: 0 }]),
      axes === MA ? null : thresholdSeries(effects),
    ].filter(Boolean),
  });
}

function backgroundSeries({ points: single, bins }) {
  const c = colours();
  const most = bins.reduce((n, bin) => Math.max(n, bin[4]), 1);
  const shade = (n) => 0.12 + 0.8 * (Math.log(1 + n) / Math.log(1 + most));
  const renderItem = (params, api) => {
    // whole pixels: neither gaps nor overlaps
    const [left, low] = api.coord([api.value(0), api.value(2)]).map(Math.round);
    const [right, high] = api.coord([api.value(1), api.value(3)]).map(Math.round);
    const shape = { x: left, y: high, width: right - left, height: low - high };
    return { type: "rect", shape, style: { fill: c.neutral, opacity: shade(api.value(4)) } };
  };
  return [
    { id: "bins", type: "custom", data: bins, z: 1, clip: true, encode: { x: [0, 1], y: [2, 3] }, renderItem },
    points("not called", single, { id: "rest", size: 4.5, fill: c.neutral, opacity: 0.55, z: 2 }),
  ];
}

function calledSeries(effects, called) {
  const c = colours();
  const emphasis = { itemStyle: { opacity: 1, borderColor: c.ink, borderWidth: 1 } };
  const look = { symbol: ARROW, size: 7, opacity: 0.8, emphasis, z: 3 };
  const side = (sign) => called.filter((point) => Math.sign(effects.log2fc[point[2]]) === sign);
  return [
    points("up", side(1), { ...look, id: "up", fill: c.up, symbolRotate: 180 }),
    points("down", side(-1), { ...look, id: "down", fill: c.down }),
  ];
}

const MOST_NAMES = 14;

/** The names of the strongest genes, and a ring around the one that is open. */
function selectedSeries(effects, all, called) {
  const c = colours();
  const strength = (point) => Math.abs(effects.statistic[point[2]]);
  const others = (called.length ? called : all).filter((point) => effects.gene[point[2]] !== state.gene);
  const strongest = [...others].sort((a, b) => strength(b) - strength(a)).slice(0, MOST_NAMES);
  const right = Math.max(...all.map((point) => point[0]));
  const top = Math.max(...all.map((point) => point[1]));
  const position = ([x, y]) => (x > 0.7 * right ? "left" : y > 0.9 * top ? "right" : "top");
  const text = (point) => ({ show: true, position: position(point), formatter: symbol(effects.gene[point[2]]) });
  const named = (point) => ({ value: point, label: text(point) });
  const open = all.filter((point) => effects.gene[point[2]] === state.gene);
  const label = {
    position: "top",
    color: c.ink,
    fontSize: 11,
    textBorderColor: c.paper,
    textBorderWidth: 2,
    fontStyle: "italic",
  };
  const bold = { ...label, color: c.focus, fontWeight: "bold" };
  return [
    points("names", strongest.map(named), {
      id: "names",
      size: 7,
      fill: "transparent",
      label,
      labelLayout: { hideOverlap: true },
      z: 5,
    }),
    points("open", open.map(named), {
      id: "open",
      size: 14,
      fill: "transparent",
      edge: c.focus,
      width: 2,
      label: bold,
      z: 6,
    }),
  ];
}

/** A rule at the largest p-value that is still called; with weights there is none that parts what is called. */
function thresholdSeries(effects) {
  if (report.meta.weighted) return null;
  let worst = 0;
  for (let i = 0; i < effects.n; i += 1) if (effects.called[i]) worst = Math.max(worst, effects.pvalue[i]);
  const { up, down } = countsOf(state.t, state.c, state.m);
  const text = `${percent(report.meta.fdr)} false discoveries`;
  return worst > 0
    ? rules([{ yAxis: minusLog10(worst) }], text, up > down ? "insideStartTop" : "insideEndTop")
    : null;
}

function redrawBackground(it, chart) {
  if (!it.cloud || it.rest.length <= MOST_POINTS || chart.isDisposed()) return;
  const [x, y] = (chart.getOption().dataZoom || []).filter((zoom) => zoom.type === "inside");
  const [x0, x1, y0, y1] = it.window;
  const part = (from, to, zoom) => [from + ((to - from) * zoom.start) / 100, from + ((to - from) * zoom.end) / 100];
  chart.setOption({ series: backgroundSeries(background(it.rest, [...part(x0, x1, x), ...part(y0, y1, y)])) });
}

function cloudTip(at) {
  if (at.seriesId === "bins")
    return tip(counted(at.value[4], "gene"), [], "Not called. Zoom in to see them one by one.");
  const row = at.value[2];
  const e = current.effects;
  const status = report.meta.statuses[e.status[row]].name;
  return tip(
    symbol(e.gene[row]),
    [
      ["Effect", `${decimal(e.log2fc[row])}  [${decimal(e.ci_low[row])}, ${decimal(e.ci_high[row])}]`],
      ["p-value", pText(e.pvalue[row])],
      ["False discovery rate", pText(e.padj[row])],
      ["Mean count", compact(e.mean_count[row])],
      ["Cells with a count", `${decimal(e.pct_cells[row], 1)}\u202f%`],
    ],
    status === "converged" ? "" : `Fit: ${status}`,
  );
}
