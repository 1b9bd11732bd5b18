// The samples of one gene as dots.

function donorsFigure() {
  const name = () => (story.gene < 0 ? "no gene" : symbol(story.gene));
  const by = () => (story.variable ? `by ${story.variable}` : "");
  return figure({
    title: "Expression in each sample",
    file: "donors",
    how: HOW.donors,
    height: 360,
    load: loadStory,
    option: donorsOption,
    empty: "No donors of this gene are in the file.",
    label: () => `Expression of ${name()} per sample, ${by()}. The numbers are in the table below.`,
    table: () => {
      const s = story.detail ? story.detail.samples : null;
      return s && { rows: s.donor.map((_, i) => i), columns: sampleColumns(s) };
    },
  });
}

function sampleColumns(s) {
  return [
    { label: "Sample", value: (i) => s.sample[i] },
    { label: "Donor", value: (i) => s.donor[i] },
    ...Object.keys(s.variables).map((name) => ({ label: name, value: (i) => s.variables[name][i] })),
    numberColumn("Cells", (i) => s.n_cells[i], whole),
    numberColumn("Mean", (i) => s.mean[i]),
    numberColumn("95 % from", (i) => s.ci_low[i]),
    numberColumn("to", (i) => s.ci_high[i]),
    numberColumn("Cells with counts, %", (i) => s.pct_cells[i]),
  ];
}

/** Return the level or value of every sample in the variable by which they are laid out. */
const valuesOf = (samples) => samples.variables[story.variable] || samples.donor.map(() => "all");

/** Return where samples stand along x: levels of a factor spread out, or the value of a number. */
function samplePlaces(samples) {
  const values = valuesOf(samples);
  if (values.every((value) => typeof value === "number"))
    return { number: true, x: values, level: () => 0, levels: [] };
  const texts = values.map(String);
  const levels = orderedLevels(texts);
  const x = texts.map(() => 0);
  levels.forEach((level, k) => {
    const peers = texts.map((_, i) => i).filter((i) => texts[i] === level);
    peers.sort((a, b) => collator.compare(samples.donor[a], samples.donor[b]));
    const spread = peers.length > 1 ? Math.min(0.34, 0.05 * peers.length) : 0;
    peers.forEach((i, rank) => (x[i] = k + spread * ((2 * rank) / Math.max(1, peers.length - 1) - 1)));
  });
  return { number: false, x, level: (i) => levels.indexOf(texts[i]), levels };
}

/** Levels with the reference first. */
function orderedLevels(texts) {
  const { reference } = report.meta.cell_types[story.t] || {};
  const first = String((reference || {})[story.variable]);
  return [...new Set(texts)].sort((a, b) => (b === first) - (a === first) || collator.compare(a, b));
}

/** Return {y, axis}: where means stand, and the axis for it; on a logarithmic one zeros are at the foot. */
function meanScale(s) {
  if (!story.log)
    return { y: (value) => value || 0, axis: axis("mean count per cell", { type: "value", nameGap: 46, min: 0 }) };
  const positive = [...s.mean, ...s.ci_low].filter((value) => value > 0);
  const lowest = Math.min(...[...s.mean, ...s.ci_high].filter((value) => value > 0));
  const floor = positive.length ? Math.max(Math.min(...positive), lowest / 20) / 1.6 : 0.001;
  const y = (value) => Math.log10(Math.max(value || 0, floor));
  const foot = Math.log10(floor);
  const [, high] = ends([...s.mean, ...s.ci_high].map(y));
  const made = logAxis("mean count per cell", foot - 0.05 * (high - foot) - 0.03, high, { nameGap: 46 });
  if (s.mean.some((value) => !(value > 0))) markZero(made.axisLabel, foot, high);
  return { y, axis: made };
}

function markZero(label, foot, high) {
  const written = label.formatter;
  label.customValues = [foot, ...label.customValues.filter((value) => value > foot + 0.06 * (high - foot))];
  label.formatter = (value) => (value <= foot + 1e-9 ? "0" : written(value));
}

function donorsOption() {
  if (!story.detail) return null;
  const s = story.detail.samples;
  const places = samplePlaces(s);
  const scale = meanScale(s);
  const whiskers = s.donor.map((_, i) => [places.x[i], scale.y(s.ci_low[i]), places.x[i], scale.y(s.ci_high[i])]);
  const style = (i) => ({ stroke: seriesColour(places.level(i)), lineWidth: 1.4, opacity: 0.7 });
  const faint = () => ({ stroke: colours().faint, lineWidth: 1, opacity: 0.6 });
  return frame({
    grid: { left: 62, right: 16, top: 14, bottom: places.number ? 48 : 58 },
    xAxis: places.number ? axis(story.variable, { type: "value" }) : levelsAxis(places.levels),
    yAxis: scale.axis,
    tooltip: { formatter: (at) => (at.data && at.data.i !== undefined ? sampleTip(s, at.data.i) : "") },
    series: [
      segments(sameDonor(s, places, scale), faint, { z: 1 }),
      segments(whiskers, style),
      points("samples", sampleDots(s, places, scale), { z: 3 }),
    ],
  });
}

function sampleDots(s, places, scale) {
  const most = Math.max(...s.n_cells, 1);
  return s.donor.map((_, i) => ({
    value: [places.x[i], scale.y(s.mean[i])],
    i,
    symbolSize: 6 + 14 * Math.sqrt(s.n_cells[i] / most),
    symbol: seriesSymbol(places.level(i)),
    itemStyle: { color: seriesColour(places.level(i)), opacity: 0.85, borderColor: colours().paper, borderWidth: 1 },
  }));
}

/** An axis of numbers whose whole numbers are the places of the levels. */
function levelsAxis(levels) {
  const customValues = levels.map((_, i) => i);
  const width = Math.max(40, Math.floor(420 / levels.length));
  const formatter = (value) => cut(levels[value] ?? "", Math.max(6, Math.floor(width / 6.5)));
  return axis(story.variable, {
    type: "value",
    min: -0.5,
    max: levels.length - 0.5,
    nameGap: 34,
    axisTick: { show: false },
    splitLine: { show: false },
    axisLabel: { color: colours().ink, fontSize: 12, customValues, interval: 0, hideOverlap: true, formatter },
  });
}

/** Return lines between the samples of a donor. */
function sameDonor(s, places, scale) {
  const of = new Map();
  s.donor.forEach((donor, i) => of.set(donor, [...(of.get(donor) || []), i]));
  const lines = [];
  for (const samples of of.values()) {
    samples.sort((a, b) => places.x[a] - places.x[b]);
    for (let k = 1; k < samples.length; k += 1) {
      const [a, b] = [samples[k - 1], samples[k]];
      lines.push([places.x[a], scale.y(s.mean[a]), places.x[b], scale.y(s.mean[b])]);
    }
  }
  return lines;
}

function sampleTip(s, i) {
  const variables = Object.keys(s.variables).map((name) => [name, shown(s.variables[name][i])]);
  return tip(s.sample[i], [
    ["Donor", s.donor[i]],
    ...variables.slice(0, 6),
    ["Cells", whole(s.n_cells[i])],
    ["Mean", `${compact(s.mean[i])}  [${compact(s.ci_low[i])}, ${compact(s.ci_high[i])}]`],
    ["Cells with a count", `${decimal(s.pct_cells[i], 1)}\u202f%`],
  ]);
}
