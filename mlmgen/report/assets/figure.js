// Figures: a heading, a chart that is made when it comes near the window, how to read it, and its numbers as a table.

const figures = new Set();
const waiting = [];

const nearby = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) if (entry.isIntersecting) entry.target.figure.show();
  },
  { rootMargin: "250px" },
);

const resized = new ResizeObserver((entries) => {
  for (const entry of entries) entry.target.figure.fit();
});

/**
 * Return a figure.
 *
 * spec: title, height in pixels (a number or a function), load() (a promise, before the first drawing), option() (of
 * ECharts, null where there is nothing to draw), empty (what stands there then), label() (the chart in a sentence),
 * note(), how (paragraphs), table() ({columns, rows} as in `grid`), click(parameters), zoom ("x", "xy"), file (name).
 */
function figure(spec) {
  const it = { spec, chart: null, shown: false, ready: false };
  it.canvas = el("div", { class: "canvas", role: "img" });
  it.note = el("p", { class: "plot-note" });
  it.tools = el(
    "div",
    { class: "plot-tools" },
    zoomButtons(it),
    button("Save image", () => saveImage(it), "small"),
  );
  it.numbers = spec.table ? numbersOf(it) : null;
  const head = el("div", { class: "plot-head" }, el("h4", null, spec.title), it.tools);
  const more = el("div", { class: "plot-more" }, spec.how ? howTo(spec.how) : null, it.numbers);
  it.node = el("figure", { class: "plot" }, head, it.canvas, it.note, more);
  it.canvas.figure = it;
  setHeight(it);
  it.show = () => show(it);
  it.fit = () => it.chart && !theme.printing && it.canvas.clientWidth > 60 && it.chart.resize();
  it.refresh = () => refresh(it);
  figures.add(it);
  waiting.push(it);
  nearby.observe(it.canvas);
  return it;
}

function howTo(texts) {
  const paragraphsOf = texts.map((text) => el("p", null, prose(text)));
  return el("details", null, el("summary", null, "How to read this"), paragraphsOf);
}

function button(text, click, style = "") {
  return el("button", { type: "button", class: style, on: { click } }, text);
}

function setHeight(it) {
  const height = typeof it.spec.height === "function" ? it.spec.height() : it.spec.height;
  it.canvas.style.height = `${Math.round(height || 340)}px`;
}

/** Load what the figure needs and draw it, once. */
async function show(it) {
  if (it.shown) return;
  it.shown = true;
  nearby.unobserve(it.canvas);
  await refresh(it);
}

/** Draw the figure again, with other data or colours, if it was drawn at all. */
async function refresh(it) {
  if (!it.shown) return;
  const turn = (it.turn = (it.turn || 0) + 1);
  await libraryReady();
  if (it.spec.load) await it.spec.load();
  if (turn !== it.turn || !it.node.isConnected) return;
  draw(it);
  it.ready = true;
}

function draw(it) {
  const option = it.spec.option();
  const label = it.spec.label ? it.spec.label() : it.spec.title;
  it.canvas.setAttribute("aria-label", label);
  fill(it.note, it.spec.note ? it.spec.note() : null);
  it.node.classList.toggle("nothing", !option);
  if (it.numbers) it.numbers.stale();
  if (!option) return drawNothing(it);
  setHeight(it);
  if (!it.chart) start(it);
  it.chart.resize();
  it.chart.setOption(it.spec.zoom ? withZoom(option, it.spec.zoom) : option, { notMerge: true });
  if (it.spec.zoom) boxZoom(it);
}

function drawNothing(it) {
  if (it.chart) it.chart.dispose();
  it.chart = null;
  it.canvas.style.height = "auto";
  fill(it.canvas, el("p", { class: "empty" }, emptyText(it.spec.empty)));
}

const emptyText = (empty) => (typeof empty === "function" ? empty() : empty) || "There is nothing to draw here.";

function start(it) {
  it.canvas.replaceChildren();
  it.chart = echarts.init(it.canvas, null, { renderer: "canvas" });
  resized.observe(it.canvas);
  if (it.spec.click) it.chart.on("click", it.spec.click);
  if (it.spec.zoomed) it.chart.on("datazoom", () => it.spec.zoomed(it.chart));
  if (it.spec.zoom) it.chart.getZr().on("dblclick", () => zoomTo(it, 0, 100));
}

const FINGERS = matchMedia("(pointer: coarse)").matches;

/** Add zooming to an option: by a box drawn with the mouse, by ctrl and the wheel, or by the buttons. */
function withZoom(option, axes) {
  const inside = {
    type: "inside",
    disabled: FINGERS, // a finger that moves over a chart scrolls the page
    zoomOnMouseWheel: "ctrl",
    moveOnMouseMove: false,
    moveOnMouseWheel: false,
    filterMode: "none",
  };
  const dataZoom = [{ ...inside, xAxisIndex: 0 }];
  if (axes === "xy") dataZoom.push({ ...inside, yAxisIndex: 0 });
  const hidden = { zoom: "path://M0,0", back: "path://M0,0" };
  const box = { show: true, icon: hidden, filterMode: "none", brushStyle: { color: "rgba(120,140,160,0.2)" } };
  if (axes === "x") box.yAxisIndex = "none";
  return {
    ...option,
    dataZoom,
    toolbox: { show: true, itemSize: 0, showTitle: false, top: -50, feature: { dataZoom: box } },
  };
}

function boxZoom(it) {
  if (FINGERS) return;
  it.chart.dispatchAction({ type: "takeGlobalCursor", key: "dataZoomSelect", dataZoomSelectActive: true });
}

/** Return the window of every zoomable axis in percent: [start, end]. */
function zoomWindow(it) {
  return (it.chart.getOption().dataZoom || [])
    .filter((zoom) => zoom.type === "inside")
    .map((zoom) => [zoom.start, zoom.end]);
}

function zoomTo(it, start, end) {
  if (!it.chart) return;
  const batch = (it.chart.getOption().dataZoom || []).map((_, dataZoomIndex) => ({ dataZoomIndex, start, end }));
  it.chart.dispatchAction({ type: "dataZoom", batch });
}

/** Zoom around the middle of what is shown. */
function zoomBy(it, factor) {
  if (!it.chart) return;
  const batch = zoomWindow(it).map(([start, end], dataZoomIndex) => {
    const middle = (start + end) / 2;
    const half = Math.min(50, ((end - start) / 2) * factor);
    const from = Math.max(0, Math.min(100 - 2 * half, middle - half));
    return { dataZoomIndex, start: from, end: from + 2 * half };
  });
  it.chart.dispatchAction({ type: "dataZoom", batch });
}

function zoomButtons(it) {
  if (!it.spec.zoom) return null;
  const one = (text, name, act) =>
    el(
      "button",
      { type: "button", class: "small", "aria-label": `${name}: ${it.spec.title}`, title: name, on: { click: act } },
      text,
    );
  return [
    one("+", "Zoom in", () => zoomBy(it, 0.5)),
    one(MINUS, "Zoom out", () => zoomBy(it, 2)),
    one("Reset", "Show everything", () => zoomTo(it, 0, 100)),
  ];
}

function saveImage(it) {
  if (!it.chart) return;
  const url = it.chart.getDataURL({ type: "png", pixelRatio: 3, backgroundColor: colours().paper });
  download(`${fileName(report.name, it.spec.file || it.spec.title)}.png`, url);
}

/** Return the details element with the figure's numbers, filled when it is opened. */
function numbersOf(it) {
  const inside = el("div");
  const node = el("details", { class: "numbers" }, el("summary", null, "The numbers"), inside);
  const write = () => {
    const table = it.spec.table();
    const name = fileName(report.name, it.spec.file || it.spec.title);
    fill(
      inside,
      table && table.rows.length
        ? grid({ ...table, caption: it.spec.title, file: name }).node
        : el("p", null, "No numbers."),
    );
  };
  node.addEventListener("toggle", async () => {
    if (!node.open) return;
    await show(it);
    if (it.spec.load) await it.spec.load();
    write();
  });
  node.stale = () => node.open && write();
  return node;
}

/** Draw, while nothing else is to be done, the figures that have not come near the window, for printing. */
function drawInIdleTime() {
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 60));
  const next = async () => {
    const table = tablesWaiting.shift();
    if (table) await table();
    const it = table ? null : waiting.shift();
    if (!it && !table) return void (document.documentElement.dataset.drawn = "all");
    if (it && it.node.isConnected && it.canvas.offsetParent !== null) await it.show();
    idle(next);
  };
  idle(next);
}

onThemeChange(() => figures.forEach((it) => it.ready && draw(it)));

const PRINT_WIDTH = 680;

/** Light colours, everything unfolded and charts as wide as paper; after printing as before. */
function preparePrint() {
  theme.printing = true;
  document.documentElement.dataset.theme = "light";
  const closed = [...document.querySelectorAll("details.prints:not([open])")];
  closed.forEach((node) => (node.open = true));
  preparePrint.closed = closed;
  for (const it of figures) {
    if (!it.ready || !it.chart) continue;
    it.chart.setOption(it.spec.option(), { notMerge: true });
    it.chart.resize({
      width: Math.min(PRINT_WIDTH, it.canvas.closest(".pair") ? PRINT_WIDTH / 2 - 10 : PRINT_WIDTH),
    });
  }
}

function afterPrint() {
  theme.printing = false;
  document.documentElement.dataset.theme = theme.name;
  (preparePrint.closed || []).forEach((node) => (node.open = false));
  for (const it of figures) if (it.ready && it.chart) (draw(it), it.chart.resize({ width: "auto" }));
}

addEventListener("beforeprint", preparePrint);
addEventListener("afterprint", afterPrint);
