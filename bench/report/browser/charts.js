// Charts in SVG, of which hover, arrow keys and screen readers tell.

const SPOKEN = 12;  // points of a series in the table that screen readers read
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

function extent(values, log) {
  const known = values.filter(value => Number.isFinite(value) && (!log || value > 0));
  if (!known.length) return log ? [1, 10] : [0, 1];
  const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  if (log) return low === high ? [low / 2, high * 2] : [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
  return low === high ? [low - 0.5, high + 0.5] : [low - 0.04 * (high - low), high + 0.04 * (high - low)];
}

/**
 * Draw into `box`. A series has a name, a look, `points` [x, y, what it is, command] and may be a line, have steps,
 * be faint, or `silent`: no points that are told of. A rule is a horizontal line. Hover and arrow keys tell of points, click and Enter copy.
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
    if (!one.silent) at.forEach((where, i) => placed.push({ where, one, point: one.points[i] }));
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
  const spoken = h("table", {}, h("caption", {}, title + cut),
    h("thead", {}, h("tr", {}, ...["series", x.label, y.label].map(name => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...series.filter(one => !one.faint).flatMap(one => one.points.slice(-SPOKEN).map(point =>
      h("tr", {}, h("th", { scope: "row" }, one.name), h("td", {}, significant(point[0])), h("td", {}, significant(point[1])))))));
  box.replaceChildren(h("figcaption", {}, title), h("div", { class: "plot" }, svg, tip), h("div", { class: "unseen" }, spoken));
}
