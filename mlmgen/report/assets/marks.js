// What several plots are made of: points, lines between two places, rules, axes of names, legends.

/** Return a series of points; data are [x, y, ...] or {value: [x, y], ...}. */
function points(
  name,
  data,
  { symbol: mark = "circle", size = 6, fill, edge, width = 1.5, opacity = 1, ...more } = {},
) {
  const itemStyle = { color: fill, opacity, ...(edge ? { borderColor: edge, borderWidth: width } : {}) };
  return { type: "scatter", name, data, symbol: mark, symbolSize: size, itemStyle, ...more };
}

/** Return a series of lines [x1, y1, x2, y2]; `style(i)` is the look of the i-th, `shift` moves it down in pixels. */
function segments(data, style, { shift = () => 0, ...more } = {}) {
  const renderItem = (params, api) => {
    const down = shift(api);
    const [x1, y1] = api.coord([api.value(0), api.value(1)]);
    const [x2, y2] = api.coord([api.value(2), api.value(3)]);
    return { type: "line", shape: { x1, y1: y1 + down, x2, y2: y2 + down }, style: style(params.dataIndex) };
  };
  return {
    type: "custom",
    data,
    silent: true,
    clip: true,
    z: 2,
    encode: { x: [0, 2], y: [1, 3] },
    renderItem,
    ...more,
  };
}

/** Return dashed rules through the plot: [{xAxis: 0}, {yAxis: 1}], with a text where one is given. */
function rules(data, text = "", position = "insideEndTop") {
  const c = colours();
  const label = { show: Boolean(text), color: c.soft, fontSize: 11, position, formatter: text };
  const lineStyle = { color: c.faint, type: "dashed", width: 1 };
  const markLine = { symbol: "none", silent: true, animation: false, label, lineStyle, data };
  return { type: "line", data: [], silent: true, markLine };
}

/** Return the diagonal from one value to another. */
function diagonal(from, to) {
  const lineStyle = { color: colours().faint, type: "dashed", width: 1 };
  const data = [
    [from, from],
    [to, to],
  ];
  return { type: "line", data, silent: true, showSymbol: false, lineStyle, tooltip: { show: false }, z: 1 };
}

/** Return an axis of names, cut to a length; `hidden` where there are too many to be read. */
function namesAxis(data, { most = 24, hidden = false, size = 11, rotate = 0, ...more } = {}) {
  const c = colours();
  const formatter = (text) => cut(text, most);
  return {
    type: "category",
    data,
    axisTick: { show: false },
    axisLine: { show: false },
    axisLabel: { show: !hidden, color: c.ink, fontSize: size, interval: 0, rotate, formatter },
    splitLine: { show: false },
    ...more,
  };
}

/** Faint lines at every name of an axis. */
const nameLines = () => ({ show: true, lineStyle: { color: colours().grid } });

/** Whether the window is too narrow for a legend in one line. */
const narrow = () => innerWidth < 600;

/** Return a legend at the top right. */
function legend(data, more = {}) {
  const textStyle = { color: colours().soft, fontSize: 11.5 };
  return { top: 0, right: 6, data, textStyle, itemWidth: 14, itemHeight: 10, selectedMode: false, ...more };
}

/** Return the box of a plot whose left edge makes room for names. */
const namedBox = (more = {}) => ({
  left: 8,
  right: 18,
  top: 28,
  bottom: 46,
  outerBoundsMode: "same",
  outerBoundsContain: "axisLabel",
  ...more,
});

/** Labels of an axis without those of its ends, which are not round numbers. */
const innerLabels = () => ({ ...axis().axisLabel, showMinLabel: false, showMaxLabel: false });

/** Return an axis with fixed ends. */
const fixedAxis = (name, min, max, more = {}) =>
  axis(name, { type: "value", min, max, axisLabel: innerLabels(), ...more });

const CROSS = "path://M0,0L2,0L5,3L8,0L10,0L6,5L10,10L8,10L5,7L2,10L0,10L4,5Z";
const ARROW = "path://M0,0L10,0L5,9Z";
const methodColour = (m) => (m ? colours().second : colours().first);
const methodSymbol = (m) => (m ? "diamond" : "circle");
