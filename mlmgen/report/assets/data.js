// Reads the blocks of data in the page; mlmgen/report/packing.py and effects_block.py say how they are written.
"use strict";
const mlmgenData = (() => {
  const GOLDEN = 0.6180339887498949, NORMAL = 1.959963984540054, SMALLEST_P = 2.2e-308, LEVEL = 0.05;
  const ARRAYS = { i1: Int8Array, i2: Int16Array, i4: Int32Array };
  const ESCAPES = { i1: -128, i2: -32768 };
  const NO_END = 2147483647; // code of an end of an interval that is not known

  // Blocks

  // The place of every character in an alphabet of 91; two of them are 13 bits.
  const PLACE = new Uint8Array(128);
  for (let code = 0x21, place = 0; code < 0x7f; code++) {
    if (!"<>&".includes(String.fromCharCode(code))) PLACE[code] = place++;
  }

  function untexted(text) {
    const found = new Uint8Array(((text.length / 2) * 13) >> 3);
    let bits = 0, waiting = 0, at = 0;
    for (let i = 0; i < text.length; i += 2) {
      bits = ((bits << 13) | (PLACE[text.charCodeAt(i)] * 91 + PLACE[text.charCodeAt(i + 1)])) & 0xfffff;
      waiting += 13;
      while (waiting >= 8) {
        waiting -= 8;
        found[at++] = (bits >> waiting) & 0xff;
      }
    }
    return found;
  }

  async function bytes(id) {
    const element = document.getElementById(`block-${id}`);
    if (!element) return null;
    const packed = untexted(element.textContent);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function once(function_) {
    const known = new Map();
    return (key) => {
      if (!known.has(key)) known.set(key, function_(key));
      return known.get(key);
    };
  }

  const text = async (id) => {
    const found = await bytes(id);
    return found && new TextDecoder().decode(found);
  };
  const block = once(async (id) => JSON.parse((await text(id)) ?? "null"));

  // A packed script becomes an element of its own, which runs at once.
  const load = once(async (id) => {
    const code = await text(id);
    if (code === null) throw new Error(`there is no block ${id}`);
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
  });

  // Numbers

  const dither = (row) => (((row + 1) * GOLDEN) % 1) - 0.5;

  // log10 of the two-sided p-value of a normal quantile, within 1e-7: the Chebyshev fit to erfc of Press et al. 1992,
  // Numerical Recipes, section 6.2.
  const ERFC = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196,
    1.00002368, -1.26551223];
  function log10P(z) {
    const x = Math.abs(z) * Math.SQRT1_2, t = 1 / (1 + 0.5 * x);
    let sum = 0;
    for (const one of ERFC) sum = sum * t + one;
    return Math.min((Math.log(t) - x * x + sum) / Math.LN10, 0);
  }

  function interpolated([x, y], at) {
    const last = x.length - 1;
    if (last < 0) return 0;
    if (at <= x[0]) return y[0];
    if (at >= x[last]) return y[last];
    let low = 0, high = last;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (x[middle] <= at) low = middle;
      else high = middle;
    }
    return y[low] + ((y[high] - y[low]) * (at - x[low])) / (x[high] - x[low]);
  }

  const polynomial = (coefficients, x) => coefficients.reduce((sum, one) => sum * x + one, 0);

  // Effects of a cell type

  function columnsOf(content) {
    const view = new DataView(content.buffer, content.byteOffset);
    let start = 4 + view.getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(content.subarray(4, start)));
    const stored = new Map();
    for (const [name, kind, n] of header.columns) {
      const size = n * ARRAYS[kind].BYTES_PER_ELEMENT;
      stored.set(name, { kind, values: new ARRAYS[kind](content.slice(start, start + size).buffer) });
      start += size;
    }
    const codes = (name) => {
      if (!stored.has(name)) return new Int32Array(0);
      const { kind, values } = stored.get(name);
      const found = Int32Array.from(values);
      if (stored.has(`${name}!`)) {
        const rest = stored.get(`${name}!`).values;
        for (let i = 0, k = 0; i < found.length; i++) if (found[i] === ESCAPES[kind]) found[i] = rest[k++];
      }
      return found;
    };
    return { header, codes };
  }

  function places(codes) {
    const found = new Uint32Array(codes.length);
    let last = -1;
    for (let i = 0; i < codes.length; i++) found[i] = last += codes[i] + 1;
    return found;
  }

  function listed(codes, n) {
    const found = new Uint8Array(n);
    for (const place of places(codes)) found[place] = 1;
    return found;
  }

  const cellType = once(async (t) => {
    const content = await bytes(`effects-${t}`);
    if (!content) return null;
    const { header, codes } = columnsOf(content);
    const { n, steps } = header;
    const gene = places(codes("gene"));
    const shift = Float64Array.from(gene, dither);
    const mean = codes("mean"), share = codes("share");
    const logMean = Float64Array.from(mean, (code, i) => (code + shift[i]) * steps.mean);
    const status = [];
    for (let m = 0; header.columns.some(([name]) => name === `status${m}`); m++) status.push(codes(`status${m}`));
    const own = {
      n, steps, gene, shift, logMean, codes, status,
      meanCount: Float32Array.from(logMean, Math.exp),
      pctCells: Float32Array.from(logMean, (value, i) => -100 * Math.expm1(-Math.exp(share[i] * steps.share + value))),
      tests: new Map(),
    };
    const first = new Map();
    for (const one of header.tests) {
      const test = decoded(own, one, first.get(one.c));
      if (!first.has(one.c)) first.set(one.c, test);
      own.tests.set(`${one.c}.${one.m}`, test);
    }
    return own;
  });

  // w: the effect in standard errors; logS: the log of the standard error; z: the normal quantile of the p-value;
  // q and width: codes. The columns that follow from them are computed when they are asked for.
  function decoded(own, header, first) {
    const { n, steps, shift, logMean } = own;
    const codes = (column) => own.codes(`${header.c}.${header.m}.${column}`);
    const out = listed(codes("out"), n), exact = listed(codes("exact"), n);
    const [es, ew, ez, eq, el, eh] = ["es", "ew", "ez", "eq", "el", "eh"].map(codes);
    const [s, w, z, q, widths] = ["s", "w", "z", "q", "width"].map(codes);
    const found = { header, out, exact };
    // of rounded rows the width of the interval, of exact ones its ends
    for (const name of ["q", "width", "low", "high"]) found[name] = new Int32Array(n);
    for (const name of ["w", "logS", "z"]) found[name] = new Float64Array(n).fill(NaN);
    for (let i = 0, e = 0, k = 0; i < n; i++) {
      if (out[i]) continue;
      if (exact[i]) {
        found.logS[i] = es[e] * steps.s;
        found.w[i] = header.joint ? ew[e] * steps.w : (ew[e] * steps.w) / Math.exp(found.logS[i]);
        found.z[i] = ez[e] * steps.z;
        if (!header.joint) [found.low[i], found.high[i]] = [el[e], eh[e]];
        found.q[i] = eq[e++];
        continue;
      }
      const known = first !== undefined && Number.isFinite(first.w[i]) && Number.isFinite(first.logS[i]);
      const value = (code) => (code + shift[i]) * steps.step;
      found.logS[i] = value(s[k]) + (known ? first.logS[i] : polynomial(header.curve, logMean[i]));
      found.w[i] = value(w[k]) + (known ? first.w[i] : 0);
      found.z[i] = value(z[k]) + found.w[i] + (known ? first.z[i] - first.w[i] : 0);
      found.width[i] = widths[k];
      found.q[i] = q[k++];
    }
    found.called = listed(codes("called"), n);
    found.disagree = listed(codes("disagree"), n);
    found.stable = new Uint8Array(n);
    for (let code = 1; code < 5; code++) for (const i of places(codes(`stable${code}`))) found.stable[i] = code;
    return found;
  }

  // The columns of a test, each with its type and the value of a gene.
  function columnsOfTest(own, m, test, detailed) {
    const { header, w, logS, z, q, exact } = test, { steps } = own;
    const se = (i) => (header.joint ? NaN : Math.exp(logS[i]));
    const half = (i) => NORMAL * Math.exp(test.width[i] * steps.width) * se(i);
    const end = (i, sign, code) =>
      header.joint || (exact[i] && code === NO_END)
        ? NaN
        : exact[i]
          ? code * steps.i
          : w[i] * se(i) + sign * half(i);
    const padj = (i) => {
      const log = exact[i] ? q[i] * steps.q : interpolated(header.knots, log10P(z[i])) + q[i] * steps.padj;
      const value = Math.min(10 ** log, 1);
      return test.called[i] ? Math.min(value, LEVEL - 1e-9) : Math.max(value, LEVEL);
    };
    return {
      gene: [Uint32Array, (i) => own.gene[i]],
      log2fc: [Float32Array, (i) => w[i] * se(i)],
      lfc_se: [Float32Array, se],
      ci_low: [Float32Array, (i) => end(i, -1, test.low[i])],
      ci_high: [Float32Array, (i) => end(i, 1, test.high[i])],
      statistic: [Float32Array, (i) => (header.joint ? w[i] ** 2 : z[i])],
      pvalue: [Float64Array, (i) => Math.max(10 ** log10P(z[i]), SMALLEST_P)],
      padj: [Float64Array, padj],
      mean_count: [Float32Array, (i) => own.meanCount[i]],
      pct_cells: [Float32Array, (i) => own.pctCells[i]],
      status: [Uint8Array, (i) => own.status[m][i]],
      called: [Uint8Array, (i) => test.called[i]],
      disagree: [Uint8Array, (i) => test.disagree[i]],
      stable: [Uint8Array, (i) => test.stable[i]],
      exact: [Uint8Array, (i) => exact[i]],
      detail: [Uint8Array, (i) => (detailed.has(own.gene[i]) ? 1 : 0)],
    };
  }

  function structOf(own, test, columns) {
    let n = 0;
    const rows = new Uint32Array(own.n);
    for (let i = 0; i < own.n; i++) if (!test.out[i]) rows[n++] = i;
    const found = { n };
    for (const [name, [type, value]] of Object.entries(columns)) {
      const list = (found[name] = new type(n));
      for (let k = 0; k < n; k++) list[k] = value(rows[k]);
    }
    return found;
  }

  // What the page uses

  async function open() {
    const [meta, named] = await Promise.all([block("meta"), block("genes")]);
    const genes = named.genes, symbols = named.symbols ?? genes;
    const ofCellType = new Map(Object.entries(named.detailed).map(([t, list]) => [Number(t), new Set(list)]));
    const detailed = new Map();
    for (const [t, list] of ofCellType) {
      for (const gene of list) detailed.set(gene, [...(detailed.get(gene) ?? []), t]);
    }
    const tests = once(async (key) => {
      const [t, c, m] = key.split(".").map(Number);
      const own = await cellType(t);
      const test = own?.tests.get(`${c}.${m}`);
      return test ? { own, test, columns: columnsOfTest(own, m, test, ofCellType.get(t) ?? new Set()) } : null;
    });
    const structs = once(async (key) => {
      const found = await tests(key);
      return found && structOf(found.own, found.test, found.columns);
    });
    const effects = (t, c, m) => structs(`${t}.${c}.${m}`);

    function find(list, gene) {
      let low = 0, high = list.length - 1;
      while (low <= high) {
        const middle = (low + high) >> 1;
        if (list[middle] === gene) return middle;
        if (list[middle] < gene) low = middle + 1;
        else high = middle - 1;
      }
      return -1;
    }

    async function row(t, c, m, gene) {
      const found = await tests(`${t}.${c}.${m}`);
      const i = found ? find(found.own.gene, gene) : -1;
      if (i < 0 || found.test.out[i]) return null;
      return Object.fromEntries(Object.entries(found.columns).map(([name, [, value]]) => [name, value(i)]));
    }

    async function ofGene(gene) {
      const all = meta.counts.map(async ({ t, c, m }) => ({ t, c, m, row: await row(t, c, m, gene) }));
      return (await Promise.all(all)).filter((one) => one.row).map(({ t, c, m, row }) => ({ t, c, m, ...row }));
    }

    async function detail(t, gene) {
      if (!ofCellType.get(t)?.has(gene)) return null;
      const all = await block(`detail-${t}`);
      const own = all.genes[gene];
      return {
        samples: { ...all.samples, ...own.samples },
        groups: all.groups.map((one, k) => ({ ...one, ...own.groups[k] })),
        variances: own.variances, effects: own.effects, fit: own.fit,
      };
    }

    const variance = once(async (t) => {
      const found = await block(`variance-${t}`);
      if (!found) return { components: [], icc: [] };
      const typed = (type, list) => type.from(list, (value) => value ?? NaN);
      const components = found.components.map((one) => ({
        ...one, gene: typed(Uint32Array, one.gene), mean_count: typed(Float32Array, one.mean_count),
        variance: typed(Float32Array, one.variance), fraction: typed(Float32Array, one.fraction),
        pvalue: typed(Float32Array, one.pvalue),
      }));
      return { components, icc: found.icc };
    });

    const folded = once(() => [genes, symbols].map((list) => list.map((name) => name.toLowerCase())));

    function search(wanted, most = 20) {
      const text = wanted.trim().toLowerCase();
      if (!text) return [];
      const [names, shown] = folded("");
      const found = [[], [], []];
      for (let g = 0; g < names.length; g++) {
        const place = Math.min(...[names[g], shown[g]].map((name) => {
          const at = name.indexOf(text);
          return at < 0 ? 3 : at > 0 ? 2 : name.length === text.length ? 0 : 1;
        }));
        if (place < 3) found[place].push(g);
      }
      const byLength = (a, b) => shown[a].length - shown[b].length || a - b;
      return [...found[0], ...found[1].sort(byLength), ...found[2].sort(byLength)].slice(0, most);
    }

    return { meta, genes, symbols, detailed, search, effects, row, gene: ofGene, detail, variance, block };
  }

  return { open: once(() => open()), load, text, columnsOf, log10P };
})();
if (typeof module !== "undefined") module.exports = mlmgenData;
