// Tables: sorted by their headers, in pages, downloaded as shown.

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/**
 * Return a table of any length.
 *
 * spec: caption, rows (of anything), columns [{label, title, value(row), text(row), node(row), numeric}], sort
 * {column, descending}, page (rows shown at once, 25), file (name of the download), empty (said where there are none),
 * plain (no sorting).
 * `value` sorts and is downloaded under `key` (the label where there is none), `text` or `node` is shown; with `value`
 * alone it is both. `tsv` ([[name, value], ...]) stands in the download for columns that show several values.
 */
function grid(spec) {
  const it = { spec, rows: spec.rows || [], page: 0, size: spec.page || 25, sort: spec.sort || null };
  it.head = el("tr");
  it.body = el("tbody");
  it.foot = el("div", { class: "grid-foot" });
  it.node = el(
    "div",
    { class: "grid" },
    el(
      "div",
      { class: "grid-scroll", tabindex: "0", role: "region", "aria-label": spec.caption },
      el("table", null, el("caption", { class: "away" }, spec.caption), el("thead", null, it.head), it.body),
    ),
    it.foot,
  );
  it.set = (rows) => {
    it.rows = rows;
    it.page = 0;
    arrange(it);
  };
  it.text = () => {
    const written = spec.columns.flatMap(
      (column) => column.tsv || [[column.key || column.label, (row) => valueOf(column, row)]],
    );
    return tsv(
      written.map(([name]) => name),
      it.rows.map((row) => written.map(([, value]) => value(row))),
    );
  };
  it.again = () => writeBody(it);
  writeHead(it);
  arrange(it);
  return it;
}

const valueOf = (column, row) => (column.value ? column.value(row) : column.text(row));

function writeHead(it) {
  fill(
    it.head,
    it.spec.columns.map((column, i) => {
      const sorted = it.sort && it.sort.column === i;
      const mark = sorted ? (it.sort.descending ? "\u25bc" : "\u25b2") : "";
      const label = it.spec.plain
        ? column.label
        : el(
            "button",
            { type: "button", title: column.title, on: { click: () => sortBy(it, i) } },
            column.label,
            el("span", { class: "mark", "aria-hidden": "true" }, mark),
          );
      const order = sorted ? (it.sort.descending ? "descending" : "ascending") : it.spec.plain ? null : "none";
      return el(
        "th",
        { scope: "col", class: classOf(column), "aria-sort": order, title: it.spec.plain ? column.title : null },
        label,
      );
    }),
  );
}

/** Sort by a column, its largest first where it says so; by the same column again: the other way round. */
function sortBy(it, i) {
  const again = it.sort && it.sort.column === i;
  it.sort = { column: i, descending: again ? !it.sort.descending : Boolean(it.spec.columns[i].descending) };
  it.page = 0;
  arrange(it);
  const header = it.head.children[i].querySelector("button");
  announce(`${it.spec.columns[i].label}, sorted ${it.sort.descending ? "descending" : "ascending"}`);
  if (header) header.focus();
}

function arrange(it) {
  if (it.sort) {
    const column = it.spec.columns[it.sort.column];
    const sign = it.sort.descending ? -1 : 1;
    const keyed = it.rows.map((row) => [valueOf(column, row), row]);
    keyed.sort((a, b) => compareValues(a[0], b[0], sign));
    it.rows = keyed.map((pair) => pair[1]);
  }
  writeHead(it);
  writeBody(it);
}

/** Missing values come last, whichever way it is sorted. */
function compareValues(a, b, sign) {
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return sign * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
}

function writeBody(it) {
  const { columns } = it.spec;
  const from = it.page * it.size;
  const rows = it.rows.slice(from, from + it.size);
  fill(
    it.body,
    rows.map((row) =>
      el(
        "tr",
        it.spec.attributes ? it.spec.attributes(row) : null,
        columns.map((column, i) => {
          const inside = column.node ? column.node(row) : column.text ? column.text(row) : shown(column.value(row));
          return el(i === 0 ? "th" : "td", { scope: i === 0 ? "row" : null, class: classOf(column) }, inside);
        }),
      ),
    ),
  );
  if (!rows.length)
    fill(it.body, el("tr", null, el("td", { colspan: columns.length, class: "empty" }, it.spec.empty || "No rows.")));
  writeFoot(it, from, rows.length);
}

const classOf = (column) => [column.numeric ? "number" : "", column.wide ? "wide" : ""].join(" ").trim() || null;

const shown = (value) => (missing(value) ? "\u2013" : typeof value === "number" ? compact(value) : value);

function writeFoot(it, from, n) {
  const last = Math.max(0, Math.ceil(it.rows.length / it.size) - 1);
  const turn = (text, name, to, off) =>
    el(
      "button",
      {
        type: "button",
        class: "small",
        "aria-label": name,
        disabled: off,
        on: { click: () => turnTo(it, to, name) },
      },
      text,
    );
  const range =
    it.rows.length > it.size ? `${whole(from + 1)}\u2013${whole(from + n)} of ${whole(it.rows.length)}` : "";
  fill(
    it.foot,
    el("span", { class: "range", hidden: !range }, range),
    last > 0
      ? [
          turn("\u2039 Previous", "Previous page", it.page - 1, it.page === 0),
          turn("Next \u203a", "Next page", it.page + 1, it.page === last),
        ]
      : null,
    it.spec.file ? button("Download as TSV", () => download(`${it.spec.file}.tsv`, it.text()), "small tsv") : null,
  );
}

function turnTo(it, page, name) {
  it.page = page;
  writeBody(it);
  const again = it.foot.querySelector(`[aria-label="${name}"]`);
  if (again && !again.disabled) again.focus();
  announce(`Rows ${it.foot.querySelector(".range").textContent}`);
}

/** Return a column of numbers, written by `text`; its first sorting starts with the largest. */
function numberColumn(label, value, text = compact, more = {}) {
  return { label, numeric: true, descending: true, value, text: (row) => text(value(row)), ...more };
}

/** Return a column with an interval, two columns in a download. */
function intervalColumn(low, high, text = compact, more = {}) {
  const written = (row) => (missing(low(row)) ? "\u2013" : `${text(low(row))} to ${text(high(row))}`);
  const twoColumns = [
    ["ci_low", low],
    ["ci_high", high],
  ];
  return { label: "95 % interval", numeric: true, value: low, text: written, tsv: twoColumns, ...more };
}

/** Return a short table of texts without sorting. */
function plainTable(caption, columns, rows) {
  return grid({
    caption,
    rows,
    plain: true,
    page: 1000,
    columns: columns.map((label, i) => ({
      label,
      text: (row) => shown(row[i]),
      node: (row) => (row[i] instanceof Node ? row[i] : shown(row[i])),
      numeric: rows.some((row) => typeof row[i] === "number"),
    })),
  }).node;
}
