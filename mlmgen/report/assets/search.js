// A combobox: type a gene, choose among suggestions with the arrow keys or the mouse.

let comboboxes = 0;

/** Return a search field for genes; `pick(gene)` is called with the index of the one chosen. */
function geneSearch(label, pick, placeholder = "Find a gene") {
  const id = `combobox-${++comboboxes}`;
  const it = { found: [], active: -1, pick };
  it.list = el("ul", { id: `${id}-list`, role: "listbox", "aria-label": "Genes", hidden: true });
  it.input = el("input", {
    type: "text",
    id,
    role: "combobox",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    placeholder,
    "aria-expanded": "false",
    "aria-controls": `${id}-list`,
    "aria-autocomplete": "list",
    "aria-label": label,
    on: {
      input: () => suggest(it),
      keydown: (event) => keyed(it, event),
      blur: () => setTimeout(() => close(it), 150),
      focus: () => it.input.select(),
    },
  });
  it.node = el("div", { class: "combobox" }, it.input, it.list);
  return it;
}

function suggest(it) {
  const text = it.input.value.trim();
  it.found = text ? report.data.search(text, 12) : [];
  it.active = it.found.length ? 0 : -1;
  fill(
    it.list,
    it.found.map((gene, i) =>
      el(
        "li",
        {
          id: `${it.input.id}-${i}`,
          role: "option",
          on: {
            mousedown: (event) => {
              event.preventDefault();
              take(it, gene);
            },
          },
        },
        symbol(gene),
        report.data.genes[gene] !== symbol(gene) ? el("small", null, report.data.genes[gene]) : null,
        report.data.detailed.has(gene) ? el("small", { class: "has" }, "donors shown") : null,
      ),
    ),
  );
  if (text && !it.found.length) fill(it.list, el("li", { class: "none" }, "No gene of this name was in the input."));
  it.list.hidden = !text;
  it.input.setAttribute("aria-expanded", String(Boolean(text)));
  mark(it);
}

function mark(it) {
  [...it.list.children].forEach((node, i) => {
    node.setAttribute("aria-selected", String(i === it.active));
    if (i === it.active) node.scrollIntoView({ block: "nearest" });
  });
  if (it.active >= 0) it.input.setAttribute("aria-activedescendant", `${it.input.id}-${it.active}`);
  else it.input.removeAttribute("aria-activedescendant");
}

function keyed(it, event) {
  const n = it.found.length;
  if (event.key === "Escape") return close(it);
  if (event.key === "Enter" && it.active >= 0) {
    event.preventDefault();
    return take(it, it.found[it.active]);
  }
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && n) {
    event.preventDefault();
    it.active = (it.active + (event.key === "ArrowDown" ? 1 : n - 1)) % n;
    mark(it);
  }
  return undefined;
}

function take(it, gene) {
  it.input.value = symbol(gene);
  close(it);
  it.pick(gene);
}

function close(it) {
  it.list.hidden = true;
  it.input.setAttribute("aria-expanded", "false");
}
