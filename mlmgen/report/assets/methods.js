// What was done, ready for a paper, and how to do it again.

function methodsSection() {
  const { meta } = report;
  return section(
    "methods",
    "Methods",
    "A paragraph for a paper, made from the config of this run. Change it as you like.",
    paperText(meta.methods_text),
    part("Input", "", inputFacts(meta)),
    folded("Versions", versionsTable(meta.versions)),
    folded("Config of the run", configText(meta.config)),
  );
}

function paperText({ paragraphs: texts, references }) {
  const everything = [...texts, "References", ...references.map((reference) => reference.text)].join("\n\n");
  const copy = button("Copy the text", () => copyText(everything, copy));
  const items = references.map((reference) => el("li", null, prose(reference.text)));
  const paper = texts.map((text) => el("p", null, prose(text)));
  const list = items.length ? el("ol", { class: "references" }, items) : null;
  return [el("div", { class: "paper" }, paper), list, el("p", null, copy)];
}

function inputFacts({ input, formula, run }) {
  const facts = [
    fact("File", input.path),
    fact("SHA-256", input.sha256),
    fact("Formula", el("code", null, formula)),
    fact("Run", run),
  ];
  return el("dl", { class: "facts" }, facts);
}

const folded = (summary, ...content) => el("details", { class: "prints" }, el("summary", null, summary), content);

const versionsTable = (versions) =>
  plainTable(
    "Versions",
    ["Program", "Version"],
    versions.map((row) => [row.name, row.version]),
  );

function configText(config) {
  const copy = button("Copy the config", () => copyText(config, copy), "small");
  return [el("p", null, copy), el("pre", { tabindex: "0", "aria-label": "Config" }, config)];
}

const fact = (name, value) => (value ? [el("dt", null, name), el("dd", null, value)] : null);
