// A part in the browser: its charts, its tables of who stands where, and its list of runs.

const MOST = 20;  // runs of a setting that are drawn
const GREY = "#8a8a8a";  // of what a failed certificate voids, and of what is no solver's

const slack = () => Number(byId("handicap-number").value);

/** Everything of a part that is computed here; gives what to do when the target or the filter moves. */
function explore(part) {
  const box = byId(`${part.name}-explore`);
  const look = solver => part.looks[solver];
  const figure = () => h("figure", { class: "chart" });
  const place = { quality: figure(), pareto: figure(), work: figure(), profile: figure(), data: figure(), standing: h("div"), across: h("div"), runs: h("div") };
  const select = (label, options, chosen, change) => h("label", {}, `${label} `, h("select", { onchange: event => change(event.target.value) },
    ...options.map(([value, text]) => h("option", { value, selected: value === chosen }, text))));
  const known = names => Object.entries(names).filter(([name]) => part.runs.some(run => run.number[name] !== null));
  const axes = { x: "parameters", y: known(part.quality)[0]?.[0] };
  const chips = part.solvers.map(solver => h("button", { type: "button", class: "chip", "aria-pressed": String(!part.hidden.has(solver)), style: `--c:${look(solver)[0]}`, onclick: event => {
    part.hidden.has(solver) ? part.hidden.delete(solver) : part.hidden.add(solver);
    event.currentTarget.setAttribute("aria-pressed", String(!part.hidden.has(solver)));
    update();
  } }, solver));
  const dagger = isVoided => (isVoided ? "†" : "");
  const shade = (cell, isVoided) => (isVoided ? [GREY, look(cell.solver)[1], ""] : look(cell.solver));
  const seen = () => part.cells.filter(cell => cell.dataset === part.dataset && !part.hidden.has(cell.solver));

  /** The lowest validation NLL on the problem, of what no failed certificate voids where there is any. */
  function best() {
    const cells = part.cells.filter(cell => cell.dataset === part.dataset), sound = cells.filter(cell => !isVoid(cell, "time"));
    const lowest = values => Math.min(...values.filter(Number.isFinite));
    const ended = of => lowest(of.flatMap(cell => cell.runs.map(run => run.best)));
    const drawn = () => lowest(cells.flatMap(cell => cell.runs.flatMap(run => [...run.curve].filter((_, i) => i % 2))));
    return [ended(sound), ended(cells)].find(Number.isFinite) ?? drawn();  // where no run ended ok none has a best
  }

  function quality(found) {
    const series = [], least = best(), voided = cell => isVoid(cell, "time");
    const runs = seen().flatMap(cell => cell.runs.filter(run => run.curve.length).slice(0, MOST).map((run, i) => [cell, run, i]));
    for (const [cell, run, i] of runs) {
      const points = [];
      for (let j = 0; j < run.curve.length; j += 2) points.push([run.curve[j], Math.max(run.curve[j + 1] - least, 0.01), told(run), run.command]);
      series.push({ name: cell.label + dagger(voided(cell)), look: shade(cell, voided(cell)), line: true, points, faint: i > 0, label: i === 0, hollow: cell.setting !== "" && !cell.chosen });
    }
    const of = sum(seen().map(cell => cell.runs.filter(run => Number.isFinite(run.best)).length));
    const few = runs.length < of ? `; ${runs.length} of ${of} runs` : "";
    const rules = found.q === null ? [] : [{ at: Math.max(found.q - least, 0.01), label: `q = ${found.q.toFixed(3)}` }];
    chart(place.quality, { title: `${part.dataset}: validation NLL above the best of all that is certified, against step seconds${few}`, x: { label: "seconds on the step clock", log: true }, y: { label: "NLL above the best (nat)", log: true }, series, rules });
  }

  function pareto() {
    const points = [];
    for (const cell of seen()) {
      const runs = cell.runs.filter(run => run.status === "ok");
      const of = name => { const values = runs.map(run => run.number[name]).filter(v => v !== null); return values.length ? median(values) : NaN; };
      const [a, b] = [of(axes.x), of(axes.y)];
      const run = nearestTo(b, runs, runs.map(one => one.number[axes.y] ?? NaN));
      if (Number.isFinite(a) && Number.isFinite(b) && a > 0) points.push({ cell, a, b, run, of: runs.length });
    }
    const void_ = cell => isVoid(cell, axes.x) || isVoid(cell, axes.y);
    const whole = ({ cell, of }) => of === cell.runs.length;  // the survivors of a solver that mostly fails are not its median
    const fair = points.filter(p => !void_(p.cell) && !p.cell.beside && whole(p) && !part.baselines.includes(p.cell.solver));
    const refused = part.mixed[part.dataset];
    const front = refused ? [] : fair.filter(p => !fair.some(o => o.a <= p.a && o.b <= p.b && (o.a < p.a || o.b < p.b))).sort((p, o) => p.a - o.a);
    const log = points.length > 0 && points.every(p => p.b > 0);
    const series = points.map(({ cell, a, b, run, of }) => ({ name: cell.label + dagger(void_(cell)), look: shade(cell, void_(cell)),
      points: [[a, b, [void_(cell) ? `void: fails ${cell.failed.join(", ")}` : front.some(p => p.cell === cell) ? "on the front" : "", of < cell.runs.length ? `${of} of ${cell.runs.length} runs ended ok` : "", whose(run, of)].filter(text => text).join("; "), run.command]] }));
    if (front.length > 1) series.unshift({ name: "front", look: [GREY, "o", "3 3"], line: true, faint: true, silent: true, label: false, points: front.map(p => [p.a, p.b]) });
    chart(place.pareto, { title: `${part.dataset}: medians over seeds; ${refused ? `no Pareto front, as ${refused}` : "dotted: the Pareto front of what is certified"}`, x: { label: part.cost[axes.x], log: true }, y: { label: part.quality[axes.y] ?? "", log }, series });
  }

  /** Error of the log-density against the seconds of its evaluation, a line a run, of settings that are the best of theirs. */
  function workPrecision() {
    const series = seen().filter(cell => cell.chosen).flatMap(cell => cell.runs.filter(run => run.work.length).slice(0, MOST).map((run, i) => {
      const points = [], isVoided = isVoid(cell, "nll");
      for (let j = 0; j < run.work.length; j += 3) points.push([run.work[j + 1], Math.max(run.work[j + 2], 1e-7), `${short(run.work[j])} times its own effort; ${told(run)}`, run.command]);
      return { name: cell.label + dagger(isVoided), look: shade(cell, isVoided), line: true, points, faint: i > 0, label: i === 0 };
    }));
    place.work.hidden = !series.some(one => one.points.length > 1);
    if (place.work.hidden) return;
    chart(place.work, { title: `${part.dataset}: error of the log-density against a fine integration, against seconds`, x: { label: `seconds for ${part.points.toLocaleString("en-US")} points`, log: true }, y: { label: "error (nat)", log: true },
      series, rules: [{ at: part.aim, label: `inference is compared at ${part.aim} nat` }] });
  }

  function standings(found) {
    const shown = found.rows.filter(row => !part.hidden.has(row.cell.solver) && row.cell.runs.some(run => run.stairs.length || run.status !== "ok"));
    const q = found.q === null ? "no target q, as no certified solver has a validation NLL in most runs" : `target q = ${found.q.toFixed(3)} nat`;
    const left = found.q !== null && found.refused ? ` Not ranked: ${found.refused}.` : "";
    const few = shown.filter(row => row.cell.beside).map(row => row.cell.label);
    const beside = few.length ? ` Not ranked, as others have more seeds: ${few.join(", ")}.` : "";
    table(place.standing, { name: `${part.name}-time-to-q`, caption: `${part.dataset}: ${q}.${left}${beside} *: runs that do not reach it, counted as twice their budget`, rows: shown, order: [1, true], mark: row => (row.isVoided ? "void" : ""),
      columns: [["solver", row => row.cell.label + dagger(row.isVoided)],
        ["seconds to q", row => (row.reached ? row.seconds : NaN), row => (row.reached ? significant(row.seconds) + (row.reached < row.of ? "*" : "") : "not reached")],
        ["reached", row => row.reached, row => `${row.reached} of ${row.of}`],
        [`times ${part.reference}`, row => row.ratio, row => (Number.isFinite(row.ratio) ? significant(row.ratio) + between(row.interval()) + row.mark + dagger(row.ratioVoided) : "–"), row => row.ratioVoided],
        ["rank", row => row.rank, row => short(row.rank).replace("NaN", "–")]] });
  }

  function acrossProblems() {
    const found = across(part, slack());
    const n = found.problems.length, k = found.solvers.length;
    const difference = n && k > 1 ? part.critical[k - 2] / Math.sqrt(n) : NaN;
    const refused = Object.entries(part.refused).map(([dataset, reason]) => `${dataset} (${reason})`);
    const left = refused.length ? `; not ranked: ${refused.join(", ")}` : "";
    const why = (n ? `${n} problem${n > 1 ? "s" : ""} run by all shown: ${found.problems.join(", ")}` : "no problem that may be ranked was run by all solvers shown: hide some") + left;
    table(place.across, { name: `${part.name}-across`, caption: `Across problems (${why}). Mean ranks that differ by less than ${significant(difference)} are not told apart (Nemenyi, 95 %). What is not reached or void counts as failed.`,
      rows: found.solvers.map((solver, i) => ({ solver, rank: found.ranks[i], ratio: found.geometric[i][0], interval: found.geometric[i].slice(1), mark: found.marks[i], count: found.counts[i], voids: found.voids[i], solved: found.seconds[i].filter(Number.isFinite).length })), order: [1, true], mark: row => (n && row.voids === n ? "void" : ""),
      columns: [["solver", row => row.solver + dagger(row.voids)], ["mean rank", row => row.rank, row => significant(row.rank)], ["solved", row => row.solved, row => `${row.solved} of ${n}${row.voids ? `, ${row.voids} void` : ""}`],
        [`times ${part.reference}, geometric mean`, row => row.ratio, row => significant(row.ratio) + between(row.interval) + row.mark + (row.count < n && row.count ? ` (${row.count} of ${n})` : "")]] });
    const y = { label: "share of problems", range: [0, 1.05] };
    const jump = (i, [at, share, problems]) => [at, share, problems.map(p => `${found.problems[p]}: ${significant(found.seconds[i][p])} s; ${found.behind[i][p][0]}`).join("\n"),
      problems.map(p => found.behind[i][p][1]).join("\n")];
    const curve = (shares, end, i) => shares.length ? [[shares[0][0], 0], ...shares.map(one => jump(i, one)), [end, shares.at(-1)[1]]] : [];
    const draw = (box, title, label, all) => {
      const end = 1.3 * Math.max(2, ...all.flat().map(point => point[0]));
      chart(box, { title, x: { label, log: true }, y, series: found.solvers.map((solver, i) => ({ name: solver, look: look(solver), line: true, steps: true, points: curve(all[i], end, i) })).filter(one => one.points.length) });
    };
    draw(place.profile, "Performance profile: share of problems within a factor of the fastest", "times the fastest", profile(found.seconds));
    draw(place.data, "Data profile: share of problems solved within a budget", "seconds to q", found.seconds.map(shares));
  }

  let fillRuns = () => {};
  const listed = () => table(place.runs, { name: `${part.name}-runs`, caption: "All runs; click a row to copy its command", rows: part.runs, pick: run => copy(run.command), order: [0, true],
    columns: [["dataset", run => run.cell.dataset], ["solver", run => run.cell.label], ["seed", run => run.seed], ["status", run => run.status],
      ...[...known(part.quality), ...known(part.cost)].map(([name, text]) => [text, run => run.number[name], run => (run.number[name] === null ? "–" : significant(run.number[name]) + (isVoid(run.cell, name) ? "†" : "")), run => isVoid(run.cell, name)]),
      ["hardware", run => run.hardware], ["record", run => run.key], ["reason", run => run.reason]] });

  const moved = h("p", { class: "note", hidden: true, role: "status" }, `The tables and figures of the report below keep the target of ${part.slack} nat.`);
  const follow = () => {  // the slider
    moved.hidden = slack() === part.slack || !part.validated.length;
    if (part.validated.length) { const found = standing(part, part.dataset, slack()); quality(found); standings(found); acrossProblems(); }
  };
  const update = () => { follow(); pareto(); workPrecision(); };
  box.append(...[
    h("div", { class: "controls" }, select("Problem", part.datasets.map(name => [name, name]), part.dataset, value => { part.dataset = value; update(); }), h("span", { role: "group", "aria-label": "solvers shown" }, ...chips)),
    part.validated.length ? h("div", { class: "pair" }, place.quality, h("div", {}, place.standing, place.across)) : null,
    part.validated.length ? h("div", { class: "pair" }, place.profile, place.data) : null,
    axes.y ? h("div", { class: "controls" }, select("Quality", known(part.quality), axes.y, value => { axes.y = value; pareto(); }), select("against", known(part.cost), axes.x, value => { axes.x = value; pareto(); })) : null,
    h("div", { class: "pair" }, axes.y ? place.pareto : null, place.work),
    part.caveats.length ? h("p", { class: "note" }, part.caveats.join(" ")) : null,
    moved,
    h("details", {}, h("summary", { onclick: () => { fillRuns = listed(); } }, `The ${part.runs.length} runs`), place.runs)].filter(node => node));
  update();
  return { box, follow, filter: () => { fillRuns(); update(); } };
}
