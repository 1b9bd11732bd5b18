// What would show if the models were wrong: fits with trouble, results that rest on one donor, donors out of line.

function stabilityPart() {
  const rows = report.meta.trust.stability;
  if (!rows.length) return null;
  const file = fileName(report.name, "stability");
  return part(
    "Does a result rest on one donor?",
    "The leading results of each cell type were tested again without each donor in turn: at most 200, or 50 of each " +
      "contrast where there are many. A stable one keeps its direction and a p-value below 0.05 whoever is left out.",
    grid({ caption: "Stability of results", rows, page: 12, file, columns: stabilityColumns() }).node,
  );
}

function stabilityColumns() {
  const donors = (row) => (row.donors || []).slice(0, 3).map((donor) => `${donor.donor} (${donor.n})`);
  const share = (row) => (row.asked ? `${whole(row.yes)} (${percent(row.yes / row.asked)})` : "\u2013");
  return [
    { label: "Cell type", value: (row) => cellTypeName(row.t), node: (row) => showLink(row.t, row.c) },
    { label: "Contrast", value: (row) => contrastName(row.c) },
    { label: "Method", value: (row) => methodName(row.m) },
    numberColumn("Asked", (row) => row.asked, whole),
    { ...numberColumn("Stable", (row) => row.yes), text: share },
    numberColumn("Not stable", (row) => row.no, whole),
    numberColumn("Needs one donor", (row) => row.not_estimable, whole, {
      title: "Cannot be estimated without a donor.",
    }),
    {
      label: "Rests most often on",
      value: (row) => donors(row).join(", "),
      text: (row) => donors(row).join(", ") || "\u2013",
    },
  ];
}

/** How all fits ended, and why some had trouble. */
function ledgerPart() {
  const { meta } = report;
  const fits = meta.trust.fits.filter((row) => !meta.cell_types[row.t].skipped);
  if (!fits.length) return null;
  const used = meta.statuses.map((_, s) => s).filter((s) => fits.some((row) => row.counts[s] > 0));
  const word = (s) => meta.statuses[s].name.replace("_", " ");
  const columns = [
    { label: "Cell type", value: (row) => cellTypeName(row.t) },
    { label: "Method", value: (row) => methodName(row.m) },
    ...used.map((s) => numberColumn(word(s), (row) => row.counts[s], whole, { title: meta.statuses[s].help })),
  ];
  const meanings = used.map((s) => [el("dt", null, word(s)), el("dd", null, meta.statuses[s].help)]);
  return part(
    "How the fits ended",
    "Converged and boundary are ordinary. Numbers of fits with another ending deserve a look before they are believed.",
    grid({ caption: "How the fits ended", rows: fits, page: 20, file: fileName(report.name, "fits"), columns }).node,
    el("details", null, el("summary", null, "What the words mean"), el("dl", null, meanings)),
    troublesTable(meta.trust.reasons),
  );
}

function troublesTable(rows) {
  if (!rows.length) return null;
  const some = (row) => (row.genes || []).slice(0, 5);
  const links = (row) =>
    el(
      "span",
      null,
      some(row).map((gene, i) => [i ? ", " : "", geneLink(gene, { t: row.t })]),
    );
  const columns = [
    { label: "Cell type", value: (row) => cellTypeName(row.t) },
    { label: "Method", value: (row) => methodName(row.m) },
    { label: "Fit", value: (row) => row.status.replace("_", " ") },
    { label: "Reason", value: (row) => row.reason },
    numberColumn("Genes", (row) => row.n, whole),
    { label: "For example", value: (row) => some(row).map(symbol).join(", "), node: links },
  ];
  const table = grid({ caption: "Reasons", rows, page: 12, file: fileName(report.name, "reasons"), columns });
  return el("details", null, el("summary", null, "Why, with examples"), table.node);
}

const groups = { of: 0 };

/** The random effects of the chosen cell type, by the chosen method if it has any. */
function effectsOf(all) {
  const mine = all.filter((row) => row.t === state.t);
  const byMethod = mine.filter((row) => row.m === state.m);
  return byMethod.length ? byMethod : mine;
}

/** Say why there is nothing to look at in any cell type. */
function noEffectsAnywhere() {
  if (!report.meta.design.donors.length)
    return "This cannot be looked at here: the prepared counts are not beside the tables.";
  return (
    "This cannot be looked at here: the model has no random effects, no gene's variance is clearly above zero, or " +
    "there are too few donors beside the fixed effects to tell one that lies out from the others."
  );
}

function randomEffectsPart() {
  const all = report.meta.trust.random_effects;
  const heading = "Are the donors as the model assumes?";
  if (!all.length) return part(heading, "", el("p", { class: "callout" }, noEffectsAnywhere()));
  const now = () => effectsOf(all)[groups.of] || effectsOf(all)[0] || null;
  const which = el("div");
  const [normal, levels] = [normalFigure(now), levelsFigure(now)];
  const redraw = () => (normal.refresh(), levels.refresh());
  const write = () => {
    const names = effectsOf(all).map(groupName);
    const pick = (name) => {
      groups.of = names.indexOf(name);
      redraw();
    };
    fill(
      which,
      el("div", { class: "choices" }, localSelect("Random effect", names, names[groups.of] || names[0], pick)),
    );
    redraw();
  };
  onChoice((changed) => changed.some((key) => key === "t" || key === "m") && write());
  write();
  return part(
    heading,
    "The model takes differences between donors as normally distributed on the log scale. A donor that lies far out " +
      "in many genes may be of lower quality, of another batch, or mislabelled.",
    which,
    el("div", { class: "pair" }, levels.node, normal.node),
  );
}

const NO_EFFECTS =
  "No random effects can be looked at for this cell type and method: the model has none, no gene's variance is " +
  "clearly above zero, or there are too few groups beside the fixed effects to tell one from another.";
const BEYOND = "Share beyond 2.58 (1 % if normal)";

function levelsFigure(now) {
  const columns = [
    { label: "Group", value: (row) => row.level },
    numberColumn("Genes", (row) => row.n_genes, whole),
    numberColumn("Typical size", (row) => row.rms_z, decimal),
    numberColumn("Middle", (row) => row.median_z, decimal),
    numberColumn(BEYOND, (row) => row.share_beyond, percent),
  ];
  return figure({
    title: "How far out each donor lies",
    how: HOW.levels,
    height: () => (now() ? Math.max(240, Math.min(640, 80 + 16 * now().levels.length)) : 160),
    empty: NO_EFFECTS,
    label: () =>
      now()
        ? `Size of the random effects of ${now().levels.length} groups. The numbers are in the table below.`
        : "No plot.",
    option: () => levelsOption(now()),
    table: () => now() && { rows: now().levels, columns },
  });
}

function levelsOption(effect) {
  if (!effect || !effect.levels.length) return null;
  const c = colours();
  const rows = effect.levels.filter((row) => !missing(row.rms_z)).sort((a, b) => a.rms_z - b.rms_z);
  const hidden = rows.length > 36;
  const size = hidden ? 5 : 9;
  const names = rows.map((row) => row.level);
  const sizes = (row) =>
    Object.entries({
      "Typical size": decimal(row.rms_z),
      Middle: decimal(row.median_z),
      [BEYOND]: percent(row.share_beyond),
    });
  const place = (key) => rows.map((row, i) => [row[key], i]);
  return frame({
    legend: legend(["typical size", "middle"]),
    grid: namedBox(),
    xAxis: axis("standard deviations", { type: "value" }),
    yAxis: namesAxis(names, { most: 20, hidden, splitLine: hidden ? { show: false } : nameLines() }),
    tooltip: { formatter: (at) => (at.value ? tip(rows[at.value[1]].level, sizes(rows[at.value[1]])) : "") },
    series: [
      points("typical size", place("rms_z"), { size, fill: c.first }),
      points("middle", place("median_z"), { symbol: "diamond", size, fill: "transparent", edge: c.second }),
      rules([{ xAxis: 0 }, { xAxis: 1 }]),
    ],
  });
}

function normalFigure(now) {
  const columns = [
    numberColumn("Expected", (row) => row[0], decimal),
    numberColumn("Observed", (row) => row[1], decimal),
  ];
  const pairs = (effect) => effect.expected.map((x, i) => [x, effect.observed[i]]);
  return figure({
    title: "Random effects against the normal distribution",
    how: HOW.normal,
    height: 320,
    empty: NO_EFFECTS,
    label: () =>
      "Quantiles of the random effects against the normal distribution. The numbers are in the table below.",
    option: () => (now() && now().expected.length ? normalOption(pairs(now())) : null),
    table: () => now() && { rows: pairs(now()), columns },
  });
}

function normalOption(data) {
  const pair = (at) => [
    ["Expected", decimal(at.value[0])],
    ["Observed", decimal(at.value[1])],
  ];
  return frame({
    grid: { left: 56, right: 14, top: 14, bottom: 48 },
    xAxis: axis("expected", { type: "value" }),
    yAxis: axis("observed", { type: "value", nameGap: 36 }),
    tooltip: { formatter: (at) => (at.value ? tip("Quantile", pair(at)) : "") },
    series: [
      points("effects", data, { size: 5, fill: colours().first }),
      diagonal(data[0][0], data[data.length - 1][0]),
    ],
  });
}
