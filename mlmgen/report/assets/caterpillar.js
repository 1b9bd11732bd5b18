// What the model makes of each group of a random effect.

const groupOfStory = () => (story.detail ? story.detail.groups[story.group] : null);

function caterpillarFigure() {
  const group = groupOfStory;
  return figure({
    title: "What the model makes of each donor",
    file: "random effects",
    how: HOW.caterpillar,
    load: loadStory,
    option: () => caterpillarOption(group()),
    height: () => (group() ? Math.max(360, Math.min(640, 80 + 17 * group().level.length)) : 200),
    empty: "This model has no random effect for this gene, or its variance could not be estimated.",
    label: () =>
      group() ? `Caterpillar plot of ${groupName(group())}. The numbers are in the table below.` : "No plot.",
    table: () => group() && { rows: group().level.map((_, i) => i), columns: groupColumns(group()) },
  });
}

function groupColumns(group) {
  const three = (value) => decimal(value, 3);
  return [
    { label: "Group", value: (i) => group.level[i] },
    numberColumn("Shrunken", (i) => group.estimate[i], three),
    numberColumn("Standard error", (i) => group.std_error[i], three),
    numberColumn("Unpooled", (i) => group.unpooled[i], three),
    numberColumn("Its standard error", (i) => group.unpooled_se[i], three),
  ];
}

function caterpillarOption(group) {
  if (!group || !group.level.length) return null;
  const c = colours();
  const order = group.level.map((_, i) => i).sort((a, b) => group.estimate[a] - group.estimate[b]);
  const hidden = order.length > 40;
  const names = order.map((i) => group.level[i]);
  const half = (i) => 1.96 * (group.std_error[i] || 0);
  const reach = Math.max(0.05, ...order.map((i) => Math.abs(group.estimate[i]) + half(i))) * 1.25;
  const inside = (value) => Math.max(-reach, Math.min(reach, value));
  const marks = (of) => order.map((i, k) => ({ value: [inside(of[i]), k], i })).filter(({ i }) => !missing(of[i]));
  const lines = order.map((i, k) => [group.estimate[i] - half(i), k, group.estimate[i] + half(i), k]);
  return frame({
    legend: legend(["shrunken", "unpooled"]),
    grid: namedBox(),
    xAxis: fixedAxis("difference from the prediction (natural log)", -reach * 1.03, reach * 1.03),
    yAxis: namesAxis(names, { most: 20, hidden, splitLine: hidden ? { show: false } : nameLines() }),
    tooltip: { formatter: (at) => (at.data && at.data.i !== undefined ? caterpillarTip(group, at.data.i) : "") },
    series: [
      segments(lines, () => ({ stroke: c.first, lineWidth: hidden ? 1 : 1.6 })),
      points("unpooled", marks(group.unpooled), {
        symbol: "diamond",
        size: hidden ? 5 : 9,
        fill: "transparent",
        edge: c.second,
        z: 3,
      }),
      points("shrunken", marks(group.estimate), { size: hidden ? 4 : 8, fill: c.first, z: 4 }),
      rules([{ xAxis: 0 }]),
    ],
  });
}

function caterpillarTip(group, i) {
  const alone = group.unpooled[i];
  return tip(group.level[i], [
    ["Shrunken", `${decimal(group.estimate[i])} \u00b1 ${decimal(1.96 * group.std_error[i])}`],
    ["Unpooled", missing(alone) ? "cannot be estimated" : decimal(alone)],
  ]);
}
