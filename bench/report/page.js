// The report in the reader's browser: what a moved target does to times, speed-ups, ranks and profiles, computed from
// the runs as bench.stats computes it; charts of it; tables that sort, filter and download. No library, no network.
"use strict";

const SPOKEN = 12;  // points of a series in the table that screen readers read
const IDLE = 120;  // ms after which what is out of sight follows the slider

// Numbers, as bench.stats and bench.report.tables have them

const median = values => {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

const significant = value => {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e7) return value.toExponential(1).replace("e+", "e");
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
};

const floats = text => new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);

const rows = ({ values, ends }) => {
  const all = floats(values);
  return ends.map((end, i) => all.subarray(i ? ends[i - 1] : 0, end));
};

/** A group of runs, read: `runs` are objects with their staircase, curve and the cell they are of. A cell has the runs
 * that ran; where none did, it is left out of all but the list of runs. `refused` has why nobody is ranked by time. */
function read(data) {
  const best = floats(data.best), stairs = rows(data.stairs), curves = rows(data.curves);
  const fields = [...Object.keys(data.quality), ...Object.keys(data.cost)];
  const runs = data.runs.map(([cell, seed, key, status, reason, penalty, command, hardware, ...numbers], i) => ({
    cell: data.cells[cell], seed, key, status, reason, penalty, command: `${data.commands[command]} seed=${seed}`, hardware: data.hardware[hardware], best: best[i], stairs: stairs[i],
    curve: curves[i] ?? new Float32Array(), number: Object.fromEntries(fields.map((name, j) => [name, numbers[j]])),
  }));
  for (const cell of data.cells) cell.runs = runs.filter(run => run.cell === cell && !data.never_ran.includes(run.status));
  const cells = data.cells.filter(cell => cell.runs.length);
  const solvers = data.solvers.filter(solver => cells.some(cell => cell.solver === solver));
  const datasets = [...new Set(cells.map(cell => cell.dataset))];
  const validated = datasets.filter(name => cells.some(c => c.dataset === name && c.runs.some(run => run.stairs.length)));
  const part = { ...data, cells, solvers, runs, datasets, validated, hidden: new Set(data.aside), dataset: validated[0] ?? datasets[0] };
  const why = name => data.mixed[name] ?? (target(part, name, 0) === null ? "no target q" : "");
  return { ...part, refused: Object.fromEntries(validated.map(name => [name, why(name)]).filter(([, reason]) => reason)) };
}

const isVoid = (cell, name) => cell.void.includes(name);

/** The common target: the largest over the solvers' settings of the median best validation NLL, + slack (nat); neither the
 * baseline nor what a failed certificate voids sets it. Null if nobody does. */
function target(part, dataset, slack) {
  const medians = part.cells
    .filter(cell => cell.dataset === dataset && cell.solver !== part.baseline && !isVoid(cell, "time"))
    .map(cell => median(cell.runs.map(run => (Number.isNaN(run.best) ? Infinity : run.best))))
    .filter(Number.isFinite);
  return medians.length ? Math.max(...medians) + slack : null;
}

/** Seconds at the first of two successive validations at or below q; null if there are no two. */
function timeTo(run, q) {
  for (let i = 0; i < run.stairs.length; i += 2) if (run.stairs[i + 1] <= q) return run.stairs[i];
  return null;
}

/** Of each setting on a dataset: the seconds to the target, penalised where it is not reached; rank and ratio to the
 * reference only where runs may be ranked, which those of fewer seeds than others' may not. A ratio is void where either
 * of its times is. */
function standing(part, dataset, slack) {
  const q = target(part, dataset, slack), refused = part.refused[dataset] ?? "", comparable = q !== null && !refused;
  const found = part.cells.filter(cell => cell.dataset === dataset).map(cell => {
    const times = cell.runs.map(run => (q === null ? null : timeTo(run, q)));
    const reached = times.filter(time => time !== null).length;
    const seconds = median(times.map((time, i) => time ?? cell.runs[i].penalty));
    const isVoided = isVoid(cell, "time");
    return { cell, reached, of: times.length, seconds, isVoided, solved: reached === times.length && !isVoided };
  });
  const reference = found.find(row => row.cell.solver === part.reference && row.cell.chosen);
  const ranked = found.filter(row => row.solved && !row.cell.beside && !part.hidden.has(row.cell.solver));
  for (const row of found) {
    row.ratio = reference && comparable && !row.cell.beside ? row.seconds / reference.seconds : NaN;
    row.ratioVoided = row.isVoided || Boolean(reference?.isVoided);
    row.mark = reference && row.reached + reference.reached < row.of + reference.of ? "*" : "";
    row.rank = row.solved && comparable && !row.cell.beside ? rankOf(row.seconds, ranked.map(other => other.seconds)) : NaN;
  }
  return { q, refused, rows: found };
}

const rankOf = (value, among) =>
  among.filter(x => x < value).length + (among.filter(x => x === value).length + 1) / 2;

/** Solvers, at their best settings, on the problems that all those shown have run with as many seeds, less those on which the
 * tables rank nobody; Infinity where not solved. */
function across(part, slack) {
  const runners = part.solvers.filter(solver => !part.hidden.has(solver) &&
    part.cells.some(cell => cell.solver === solver && cell.runs.some(run => run.stairs.length)));
  const has = (solver, dataset) => part.cells.some(c => c.solver === solver && c.dataset === dataset && !c.beside);
  const problems = part.validated.filter(dataset =>
    runners.length && !part.refused[dataset] && runners.every(solver => has(solver, dataset)));
  const seconds = runners.map(() => []), ratios = runners.map(() => []), marks = runners.map(() => "");
  for (const dataset of problems) {
    const { rows: found } = standing(part, dataset, slack);
    runners.forEach((solver, i) => {
      const row = found.find(one => one.cell.solver === solver && one.cell.chosen);
      seconds[i].push(row.solved ? row.seconds : Infinity);
      if (!Number.isFinite(row.ratio) || row.ratioVoided) return;
      ratios[i].push(row.ratio);
      marks[i] ||= row.mark;
    });
  }
  const ranks = runners.map((_, i) =>
    mean(problems.map((_, p) => rankOf(seconds[i][p], seconds.map(times => times[p])))));
  const geometric = ratios.map(found => Math.exp(mean(found.map(Math.log))));
  return { solvers: runners, problems, seconds, ranks, geometric, marks, counts: ratios.map(found => found.length) };
}

const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The share of problems on which a solver takes at most tau times the best (Dolan and More 2002), at its jumps. */
function profile(seconds) {
  const best = seconds[0]?.map((_, p) => Math.min(...seconds.map(times => times[p]))) ?? [];
  return seconds.map(times => shares(times.map((time, p) => (time === Infinity ? Infinity : time / best[p]))));
}

function shares(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.map((value, i) => [value, (i + 1) / values.length]).filter(([v], i) => v !== sorted[i + 1]);
}

// The document

const h = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null));
  return node;
}

const byId = id => document.getElementById(id);

function say(text) {
  const toast = byId("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove("shown"), 2500);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a page opened from a file may not have the clipboard
    const area = document.body.appendChild(h("textarea", { class: "unseen" }));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`Copied: ${text}`);
}

const onOneLine = text => text.replace(/\s+/g, " ").trim();

/** The lines of a CSV, of columns [heading, values, texts shown]. Numbers stand alone, to be read by programs; where a
 * text shows more (†, *, an interval, a count), the texts have a column of their own. */
function csv(columns) {
  const made = columns.flatMap(([heading, values, shown]) => {
    const name = onOneLine(heading), texts = shown.map(onOneLine);
    if (!values.some(Number.isFinite)) return [[name, ...texts]];
    const numbers = [name, ...values.map(value => (Number.isFinite(value) ? value : ""))];
    return texts.every(text => /^[-\d.,e–]*$/.test(text)) ? [numbers] : [numbers, [`${name} shown`, ...texts]];
  });
  return made[0].map((_, i) => made.map(column => column[i]));
}

function download(name, lines) {
  const quote = value => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const text = lines.map(line => line.map(value => quote(String(value))).join(",")).join("\n") + "\n";
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: `${name}.csv` });
  link.click();
  URL.revokeObjectURL(link.href);
}

// Charts

const MARKERS = {
  o: "M4 0A4 4 0 1 1-4 0A4 4 0 1 1 4 0", s: "M-3.5-3.5H3.5V3.5H-3.5Z", "^": "M0-4.5L4.2 3.5H-4.2Z",
  D: "M0-4.8L4.8 0L0 4.8L-4.8 0Z", v: "M0 4.5L4.2-3.5H-4.2Z", P: "M-1.6-4.5H1.6V-1.6H4.5V1.6H1.6V4.5H-1.6V1.6H-4.5V-1.6H-1.6Z",
  X: "M-4-2L-2-4L0-2L2-4L4-2L2 0L4 2L2 4L0 2L-2 4L-4 2L-2 0Z",
  "*": "M0-5.5L1.4-1.8H5.3L2.2.6L3.4 4.5L0 2.1L-3.4 4.5L-2.2.6L-5.3-1.8H-1.4Z",
};
const SIZE = { width: 560, height: 330, left: 62, right: 96, top: 12, bottom: 44 };

/** Ticks of an axis from `low` to `high`. */
function ticks([low, high], log) {
  if (log) {
    const decades = Math.log10(high / low);
    const steps = decades > 5 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const step of steps) found.push(step * 10 ** e);
    const inside = found.filter(x => x >= low * 0.999 && x <= high * 1.001);
    const every = Math.ceil(inside.length / 8);
    return inside.length > 1 ? inside.filter((_, i) => i % every === 0) : [low, high];
  }
  const raw = (high - low) / 5, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(x => x * size).find(x => x >= raw);
  const found = [];
  for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-9; x += step) found.push(Math.abs(x) < step / 1e6 ? 0 : x);
  return found;
}

const short = value => {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(0).replace("e+", "e");
  return String(+value.toPrecision(3));
};

function extent(values, log) {
  const known = values.filter(value => Number.isFinite(value) && (!log || value > 0));
  if (!known.length) return log ? [1, 10] : [0, 1];
  const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  if (log) return low === high ? [low / 2, high * 2] : [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
  return low === high ? [low - 0.5, high + 0.5] : [low - 0.04 * (high - low), high + 0.04 * (high - low)];
}

/**
 * Draw into `box`. A series has a name, a look, `points` [x, y, what it is, command] and may be a line, have steps,
 * be faint, or be only `marks`. A rule is a horizontal line. Hover and arrow keys tell of points, click and Enter copy.
 */
function chart(box, { title, x, y, series, rules = [] }) {
  const { width, height, left, right, top, bottom } = SIZE;
  const all = series.flatMap(one => one.points);
  const spanX = x.range ?? extent(all.map(p => p[0]), x.log);
  const spanY = y.range ?? extent([...all.map(p => p[1]), ...rules.map(r => r.at)], y.log);
  const scale = ([low, high], log, from, to) => value => {
    const part = log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low);
    return from + (to - from) * Math.min(1.02, Math.max(-0.02, part));
  };
  const px = scale(spanX, x.log, left, width - right), py = scale(spanY, y.log, height - bottom, top);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0,
    "aria-label": `${title}. ${series.length} series; arrow keys read the points, Enter copies a command.` });
  for (const at of ticks(spanX, x.log)) svg.append(
    s("line", { class: "grid", x1: px(at), x2: px(at), y1: top, y2: height - bottom }),
    s("text", { x: px(at), y: height - bottom + 16, "text-anchor": "middle" }, short(at)));
  for (const at of ticks(spanY, y.log)) svg.append(
    s("line", { class: "grid", x1: left, x2: width - right, y1: py(at), y2: py(at) }),
    s("text", { x: left - 7, y: py(at) + 4, "text-anchor": "end" }, short(at)));
  svg.append(s("text", { class: "axis", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, x.label),
    s("text", { class: "axis", transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.label));
  for (const rule of rules) svg.append(
    s("line", { class: "rule", x1: left, x2: width - right, y1: py(rule.at), y2: py(rule.at) }),
    s("text", { x: left + 4, y: py(rule.at) - 4 }, rule.label));
  const placed = [], ends = [];
  for (const one of series) {
    const [colour, marker, dash] = one.look;
    const at = one.points.map(p => [px(p[0]), py(p[1])]);
    at.forEach((where, i) => placed.push({ where, one, point: one.points[i] }));
    if (one.line && at.length > 1) svg.append(s("path", { class: one.faint ? "line faint" : "line", stroke: colour,
      "stroke-dasharray": dash, d: at.map(([a, b], i) => (i && one.steps ? `H${a.toFixed(1)}V${b.toFixed(1)}` : `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`)).join("") }));
    const every = one.line && !one.steps ? Math.max(1, Math.ceil(at.length / 6)) : 1;
    if (!one.faint) at.forEach(([a, b], i) => {
      if (i % every === 0 || i === at.length - 1) svg.append(s("path", { class: "mark", transform: `translate(${a.toFixed(1)} ${b.toFixed(1)})`, d: MARKERS[marker], fill: one.hollow ? "none" : colour, stroke: colour }));
    });
    if (at.length && one.label !== false) ends.push({ text: one.name, colour, x: at.at(-1)[0], y: at.at(-1)[1] });
  }
  ends.sort((a, b) => a.y - b.y);
  ends.forEach((end, i) => { if (i) end.y = Math.max(end.y, ends[i - 1].y + 12); });
  const excess = ends.length ? Math.max(0, ends.at(-1).y - (height - bottom)) : 0;
  for (const end of ends) svg.append(s("text", { class: "end", x: Math.min(end.x + 8, width - right + 8), y: end.y - excess + 4, fill: end.colour }, end.text));
  const ring = svg.appendChild(s("circle", { class: "ring", r: 7, cx: -20, cy: -20 }));
  const tip = h("div", { class: "tip", "aria-live": "polite" });
  let now = -1;
  const show = i => {
    now = i;
    if (i < 0) { tip.classList.remove("shown"); ring.setAttribute("cx", -20); return; }
    const { where: [a, b], one, point } = placed[i];
    ring.setAttribute("cx", a); ring.setAttribute("cy", b);
    tip.replaceChildren(h("strong", {}, one.name), `\n${x.label}: ${significant(point[0])}\n${y.label}: ${significant(point[1])}`, point[2] ? `\n${point[2]}` : "", point[3] ? "\nclick: copy its command" : "");
    tip.style.left = `${100 * Math.min(a / width, 0.62)}%`;
    tip.style.top = `${100 * b / height}%`;
    tip.classList.add("shown");
  };
  svg.addEventListener("pointermove", event => {
    const frame = svg.getBoundingClientRect();
    const a = (event.clientX - frame.left) * width / frame.width, b = (event.clientY - frame.top) * height / frame.height;
    let near = -1, least = 26 ** 2;
    placed.forEach(({ where }, i) => {
      const far = (where[0] - a) ** 2 + (where[1] - b) ** 2;
      if (far < least) [near, least] = [i, far];
    });
    show(near);
  });
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  const take = () => { if (now >= 0 && placed[now].point[3]) copy(placed[now].point[3]); };
  svg.addEventListener("click", take);
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && placed.length) { show((now + step + placed.length) % placed.length); event.preventDefault(); }
    if (event.key === "Enter") take();
    if (event.key === "Escape") show(-1);
  });
  const cut = series.some(one => one.points.length > SPOKEN || one.faint) ? ` (of each series one run, its last ${SPOKEN} points)` : "";
  const spoken = h("table", { class: "unseen" }, h("caption", {}, title + cut),
    h("thead", {}, h("tr", {}, ...["series", x.label, y.label].map(name => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...series.filter(one => !one.faint).flatMap(one => one.points.slice(-SPOKEN).map(point =>
      h("tr", {}, h("th", { scope: "row" }, one.name), h("td", {}, significant(point[0])), h("td", {}, significant(point[1])))))));
  box.replaceChildren(h("figcaption", {}, title), h("div", { class: "plot" }, svg, tip), spoken);
}

// Tables

/** Rows of numbers or text: `columns` are [heading, row -> value, row -> shown, row -> void]; sorts by click. */
const sorting = {};  // of each table by its name: it is made anew wherever the slider moves

function table(box, { name, caption, columns, rows: given, order, mark, most = 400, pick }) {
  const sort = sorting[name] ??= { by: order?.[0] ?? -1, up: order?.[1] ?? true };
  const heads = columns.map(([heading], i) => h("th", { scope: "col" }, h("button", { type: "button", onclick: () => {
    sort.up = sort.by === i ? !sort.up : true;
    sort.by = i;
    fill();
  } }, heading)));
  const body = h("tbody"), more = h("p", { class: "note" });
  const told = ([, value, shown], row) => String((shown ?? value)(row) ?? "–");
  const fill = () => {
    heads.forEach((head, i) => head.setAttribute("aria-sort", sort.by !== i ? "none" : sort.up ? "ascending" : "descending"));
    const sorted = sort.by < 0 ? given : given.toSorted((a, b) => compare(columns[sort.by][1](a), columns[sort.by][1](b), sort.up));
    const kept = sorted.filter(row => matches(columns.map(column => told(column, row)).join(" ")));
    body.replaceChildren(...kept.slice(0, most).map(row => h("tr", { class: mark?.(row) ?? "", ...(pick ? { tabindex: 0, class: "pick", title: "click: copy its command", onclick: () => pick(row), onkeydown: event => event.key === "Enter" && pick(row) } : {}) },
      ...columns.map((column, i) => h(i ? "td" : "th", i ? { class: column[3]?.(row) ? "void" : null } : { scope: "row" }, told(column, row))))));
    more.textContent = kept.length > most ? `${most} of ${kept.length} shown: filter, or download all.` : "";
  };
  const save = () => download(name, csv(columns.map(column => [column[0], given.map(column[1]), given.map(row => told(column, row))])));
  box.replaceChildren(h("div", { class: "wide" }, h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, ...heads)), body)),
    more, h("button", { type: "button", class: "quiet", onclick: save }, "CSV"));
  fill();
  return fill;
}

function compare(a, b, up) {
  const missing = value => value === null || value === undefined || value === "" || Number.isNaN(value);
  if (missing(a) || missing(b)) return missing(a) - missing(b);  // last, whichever way
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return up ? order : -order;
}

const filtering = () => byId("filter").value.trim() !== "";
const matches = text => byId("filter").value.toLowerCase().split(/\s+/).every(word => text.toLowerCase().includes(word));

/** Let a table that is in the page already sort, filter and download. */
function enhance(one) {
  const body = one.tBodies[0], original = [...body.rows];
  const value = (row, i) => (row.cells[i].dataset.v === undefined ? row.cells[i].textContent : Number(row.cells[i].dataset.v));
  [...one.tHead.rows[0].cells].forEach((head, i) => {
    const button = h("button", { type: "button", onclick: () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of one.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.replaceChildren(...original.toSorted((a, b) => compare(value(a, i), value(b, i), up)));
    } }, head.textContent);
    head.setAttribute("aria-sort", "none");
    head.replaceChildren(button);
  });
  const columns = () => [...one.tHead.rows[0].cells].map((head, i) =>
    [head.textContent, [...body.rows].map(row => value(row, i)), [...body.rows].map(row => row.cells[i].textContent)]);
  one.closest(".wide").after(h("button", { type: "button", class: "quiet", onclick: () => download(one.dataset.name, csv(columns())) }, "CSV"));
  const fold = one.closest("details");
  return () => {
    original.forEach(row => { row.hidden = !matches(row.textContent); });
    if (fold) fold.open = filtering() && original.some(row => !row.hidden);
  };
}

// The parts

const slack = () => Number(byId("handicap-number").value);

/** Everything of a part that is computed here; gives what to do when the target or the filter moves. */
function explore(part) {
  const box = byId(`${part.name}-explore`);
  const look = solver => part.looks[solver];
  const figure = () => h("figure", { class: "chart" });
  const place = { quality: figure(), pareto: figure(), profile: figure(), data: figure(), standing: h("div"), across: h("div"), runs: h("div") };
  const select = (label, options, chosen, change) => h("label", {}, `${label} `, h("select", { onchange: event => change(event.target.value) },
    ...options.map(([value, text]) => h("option", { value, selected: value === chosen }, text))));
  const known = names => Object.entries(names).filter(([name]) => part.runs.some(run => run.number[name] !== null));
  const axes = { x: "parameters", y: known(part.quality)[0]?.[0] };
  const chips = part.solvers.map(solver => h("button", { type: "button", class: "chip", "aria-pressed": String(!part.hidden.has(solver)), style: `--c:${look(solver)[0]}`, onclick: event => {
    part.hidden.has(solver) ? part.hidden.delete(solver) : part.hidden.add(solver);
    event.currentTarget.setAttribute("aria-pressed", String(!part.hidden.has(solver)));
    update();
  } }, solver));
  const seen = () => part.cells.filter(cell => cell.dataset === part.dataset && !part.hidden.has(cell.solver));
  const told = run => `seed ${run.seed}, ${run.status}, record ${run.key}`;

  function quality(found) {
    const series = [], curves = new Map(seen().map(cell => [cell, cell.runs.filter(run => run.curve.length)]));
    let least = Infinity;
    for (const runs of curves.values()) for (const run of runs) for (let i = 1; i < run.curve.length; i += 2) least = Math.min(least, run.curve[i]);
    for (const [cell, runs] of curves) runs.slice(0, 20).forEach((run, i) => {
      const points = [];
      for (let j = 0; j < run.curve.length; j += 2) points.push([run.curve[j], Math.max(run.curve[j + 1] - least, 0.01), told(run), run.command]);
      series.push({ name: cell.label, look: look(cell.solver), line: true, points, faint: i > 0, label: i === 0, hollow: cell.setting !== "" && !cell.chosen });
    });
    const rules = found.q === null ? [] : [{ at: Math.max(found.q - least, 0.01), label: `q = ${found.q.toFixed(3)}` }];
    chart(place.quality, { title: `${part.dataset}: validation NLL above the best of all, against step seconds`, x: { label: "seconds on the step clock", log: true }, y: { label: "NLL above the best (nat)", log: true }, series, rules });
  }

  function pareto() {
    const points = [];
    for (const cell of part.cells.filter(c => c.dataset === part.dataset && !part.hidden.has(c.solver))) {
      const runs = cell.runs.filter(run => run.status === "ok");
      const of = name => { const values = runs.map(run => run.number[name]).filter(v => v !== null); return values.length ? median(values) : NaN; };
      const [a, b] = [of(axes.x), of(axes.y)];
      const far = run => (run.number[axes.y] === null ? Infinity : Math.abs(run.number[axes.y] - b));
      const run = runs.reduce((best, one) => (far(one) < far(best) ? one : best), runs[0]);
      if (Number.isFinite(a) && Number.isFinite(b) && a > 0) points.push({ cell, a, b, run, of: runs.length });
    }
    const void_ = cell => isVoid(cell, axes.x) || isVoid(cell, axes.y);
    const fair = points.filter(p => !void_(p.cell) && !p.cell.beside);
    const refused = part.mixed[part.dataset];
    const front = refused ? [] : fair.filter(p => !fair.some(o => o.a <= p.a && o.b <= p.b && (o.a < p.a || o.b < p.b))).sort((p, o) => p.a - o.a);
    const log = points.length > 0 && points.every(p => p.b > 0);
    const whose = (run, of) => (of > 1 ? `median of ${of}; the nearest: ` : "") + told(run);
    const series = points.map(({ cell, a, b, run, of }) => ({ name: cell.label + (void_(cell) ? "†" : ""), look: void_(cell) ? ["#8a8a8a", look(cell.solver)[1], ""] : look(cell.solver),
      points: [[a, b, [void_(cell) ? `void: fails ${cell.failed.join(", ")}` : front.some(p => p.cell === cell) ? "on the front" : "", whose(run, of)].filter(text => text).join("; "), run.command]] }));
    if (front.length > 1) series.unshift({ name: "front", look: ["#8a8a8a", "o", "3 3"], line: true, faint: true, label: false, points: front.map(p => [p.a, p.b, "Pareto front"]) });
    chart(place.pareto, { title: `${part.dataset}: medians over seeds; ${refused ? `no Pareto front, as ${refused}` : "dotted: the Pareto front of what is certified"}`, x: { label: part.cost[axes.x], log: true }, y: { label: part.quality[axes.y] ?? "", log }, series });
  }

  function standings(found) {
    const shown = found.rows.filter(row => !part.hidden.has(row.cell.solver) && row.cell.runs.some(run => run.stairs.length || run.status !== "ok"));
    const q = found.q === null ? "no target q, as no certified solver has a validation NLL in most runs" : `target q = ${found.q.toFixed(3)} nat`;
    const left = found.q !== null && found.refused ? ` Not ranked: ${found.refused}.` : "";
    const few = shown.filter(row => row.cell.beside).map(row => row.cell.label);
    const beside = few.length ? ` Not ranked, as others have more seeds: ${few.join(", ")}.` : "";
    const dagger = isVoided => (isVoided ? "†" : "");
    table(place.standing, { name: `${part.name}-time-to-q`, caption: `${part.dataset}: ${q}.${left}${beside} *: runs that do not reach it, counted as twice their budget`, rows: shown, order: [1, true], mark: row => (row.isVoided ? "void" : ""),
      columns: [["solver", row => row.cell.label + dagger(row.isVoided)],
        ["seconds to q", row => (row.reached ? row.seconds : NaN), row => (row.reached ? significant(row.seconds) + (row.reached < row.of ? "*" : "") : "not reached")],
        ["reached", row => row.reached, row => `${row.reached} of ${row.of}`],
        [`times ${part.reference}`, row => row.ratio, row => (Number.isFinite(row.ratio) ? significant(row.ratio) + row.mark + dagger(row.ratioVoided) : "–"), row => row.ratioVoided],
        ["rank", row => row.rank, row => short(row.rank).replace("NaN", "–")]] });
  }

  function acrossProblems() {
    const found = across(part, slack());
    const n = found.problems.length, k = found.solvers.length;
    const difference = n && k > 1 ? part.critical[k - 2] / Math.sqrt(n) : NaN;
    const refused = Object.entries(part.refused).map(([dataset, reason]) => `${dataset} (${reason})`);
    const left = refused.length ? `; not ranked: ${refused.join(", ")}` : "";
    const why = (n ? `${n} problem${n > 1 ? "s" : ""} run by all shown: ${found.problems.join(", ")}` : "no problem that may be ranked was run by all solvers shown: hide some") + left;
    table(place.across, { name: `${part.name}-across`, caption: `Across problems (${why}). Mean ranks that differ by less than ${significant(difference)} are not told apart (Nemenyi, 95 %).`,
      rows: found.solvers.map((solver, i) => ({ solver, rank: found.ranks[i], ratio: found.geometric[i], mark: found.marks[i], count: found.counts[i], solved: found.seconds[i].filter(Number.isFinite).length })), order: [1, true],
      columns: [["solver", row => row.solver], ["mean rank", row => row.rank, row => significant(row.rank)], ["solved", row => row.solved, row => `${row.solved} of ${n}`],
        [`times ${part.reference}, geometric mean`, row => row.ratio, row => significant(row.ratio) + row.mark + (row.count < n && row.count ? ` (${row.count} of ${n})` : "")]] });
    const y = { label: "share of problems", range: [0, 1.05] };
    const curve = (shares, end) => shares.length ? [[shares[0][0], 0], ...shares, [end, shares.at(-1)[1]]] : [];
    const draw = (box, title, label, all) => {
      const end = 1.3 * Math.max(2, ...all.flat().map(point => point[0]));
      chart(box, { title, x: { label, log: true }, y, series: found.solvers.map((solver, i) => ({ name: solver, look: look(solver), line: true, steps: true, points: curve(all[i], end) })).filter(one => one.points.length) });
    };
    draw(place.profile, "Performance profile: share of problems within a factor of the fastest", "times the fastest", profile(found.seconds));
    draw(place.data, "Data profile: share of problems solved within a budget", "seconds to q", found.seconds.map(shares));
  }

  const fillRuns = table(place.runs, { name: `${part.name}-runs`, caption: "All runs; click a row to copy its command", rows: part.runs, pick: run => copy(run.command), order: [0, true],
    columns: [["dataset", run => run.cell.dataset], ["solver", run => run.cell.label], ["seed", run => run.seed], ["status", run => run.status],
      ...[...known(part.quality), ...known(part.cost)].map(([name, text]) => [text, run => run.number[name], run => (run.number[name] === null ? "–" : significant(run.number[name]) + (isVoid(run.cell, name) ? "†" : "")), run => isVoid(run.cell, name)]),
      ["hardware", run => run.hardware], ["record", run => run.key], ["reason", run => run.reason]] });

  const moved = h("p", { class: "note", hidden: true, role: "status" }, `The tables and figures of the report below keep the target of ${part.slack} nat.`);
  const update = () => {
    moved.hidden = slack() === part.slack || !part.validated.length;
    if (part.validated.length) { const found = standing(part, part.dataset, slack()); quality(found); standings(found); acrossProblems(); }
    pareto();
  };
  box.append(...[
    h("div", { class: "controls" }, select("Problem", part.datasets.map(name => [name, name]), part.dataset, value => { part.dataset = value; update(); }), h("span", { role: "group", "aria-label": "solvers shown" }, ...chips)),
    part.validated.length ? h("div", { class: "pair" }, place.quality, h("div", {}, place.standing, place.across)) : null,
    part.validated.length ? h("div", { class: "pair" }, place.profile, place.data) : null,
    axes.y ? h("div", { class: "controls" }, select("Quality", known(part.quality), axes.y, value => { axes.y = value; pareto(); }), select("against", known(part.cost), axes.x, value => { axes.x = value; pareto(); })) : null,
    axes.y ? place.pareto : null,
    part.caveats.length ? h("p", { class: "note" }, part.caveats.join(" ")) : null,
    moved,
    h("details", {}, h("summary", {}, `The ${part.runs.length} runs`), place.runs)].filter(node => node));
  update();
  return { box, update, filter: () => { fillRuns(); update(); } };
}

function start() {
  const parts = [...document.querySelectorAll("script[type='application/json']")].map(node => read(JSON.parse(node.textContent)));
  const explored = parts.map(explore);
  const filters = [...document.querySelectorAll("table[data-name]")].map(enhance);
  const range = byId("handicap"), number = byId("handicap-number");
  let stale = [], later;
  const near = ({ box }) => { const at = box.getBoundingClientRect(); return at.bottom > -innerHeight && at.top < 2 * innerHeight; };
  const renew = which => {
    clearTimeout(later);
    stale.filter(which).forEach(one => one.update());
    stale = stale.filter(one => !which(one));
    if (stale.length) later = setTimeout(() => renew(one => one === stale[0]), IDLE);
  };
  const move = () => { stale = [...explored]; renew(near); };  // what is seen at once, the rest when the slider rests
  addEventListener("scroll", () => renew(near), { passive: true });
  range.addEventListener("input", () => { number.value = range.value; move(); });
  number.addEventListener("input", () => { range.value = number.value; move(); });
  byId("filter").addEventListener("input", () => { filters.forEach(f => f()); explored.forEach(one => one.filter()); });
  let opened = [];
  addEventListener("beforeprint", () => {
    renew(() => true);
    opened = [...document.querySelectorAll("details.printed:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  });
  document.addEventListener("keydown", event => {
    if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    event.preventDefault();
    byId("filter").focus();
  });
  window.report = { parts, target, standing, across, profile };  // for the console, and for tests
}

start();
