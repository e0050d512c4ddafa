// What a target makes of a part's runs: times, ratios, ranks and profiles, as bench.report.tables and standing have them.

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const floats = text => new Float32Array(bytes(text).buffer);
const unpacked = text => new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"))).json();

const rows = ({ values, ends }) => {
  const all = floats(values);
  return ends.map((end, i) => all.subarray(i ? ends[i - 1] : 0, end));
};

/** A group of runs, read: `runs` are objects with their staircase, curve and the cell they are of. A cell has the runs
 * that ran; where none did, it is left out of all but the list of runs. `refused` has why nobody is ranked by time. */
function read(data) {
  const best = floats(data.best), stairs = rows(data.stairs), curves = rows(data.curves), works = rows(data.work);
  const fields = [...Object.keys(data.quality), ...Object.keys(data.cost)];
  const runs = data.runs.map(([cell, seed, key, status, reason, penalty, command, hardware, ...numbers], i) => ({
    cell: data.cells[cell], seed, key, status, reason, penalty, command: `${data.commands[command]} seed=${seed}`, hardware: data.hardware[hardware], best: best[i], stairs: stairs[i],
    curve: curves[i], work: works[i], number: Object.fromEntries(fields.map((name, j) => [name, numbers[j]])),
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

/** The common target: the largest over the solvers, each at its best setting, of the median best validation NLL, + slack (nat);
 * neither the baseline nor what a failed certificate voids or is not ranked for its seeds sets it. Null if nobody does. */
function target(part, dataset, slack) {
  const medians = part.cells
    .filter(cell => cell.dataset === dataset && cell.chosen && cell.solver !== part.baseline && !isVoid(cell, "time"))
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
    const counted = times.map((time, i) => time ?? cell.runs[i].penalty), seconds = median(counted);
    const isVoided = isVoid(cell, "time");
    const nearest = nearestTo(seconds, cell.runs, counted);
    return { cell, reached, of: times.length, seconds, counted, nearest, isVoided, solved: reached === times.length && !isVoided };
  });
  const reference = found.find(row => row.cell.solver === part.reference && row.cell.chosen);
  const ranked = found.filter(row => row.solved && !row.cell.beside && !part.hidden.has(row.cell.solver));
  for (const row of found) {
    row.against = reference && comparable && !row.cell.beside ? reference.counted : null;
    row.ratio = row.against ? row.seconds / reference.seconds : NaN;
    row.interval = () => (row.against && row !== reference ? geometric(part, [row]).slice(1) : [NaN, NaN]);  // only where shown
    row.ratioVoided = row.isVoided || Boolean(reference?.isVoided);
    row.mark = reference && row.reached + reference.reached < row.of + reference.of ? "*" : "";
    row.rank = row.solved && comparable && !row.cell.beside ? rankOf(row.seconds, ranked.map(other => other.seconds)) : NaN;
  }
  return { q, refused, rows: found };
}

/** The run whose value is the nearest to the median. */
const nearestTo = (middle, runs, values) => {
  const far = i => (Number.isFinite(values[i]) ? Math.abs(values[i] - middle) : Infinity);
  return runs[runs.reduce((best, _, i) => (far(i) < far(best) ? i : best), 0)];
};

const told = run => `seed ${run.seed}, ${run.status}, record ${run.key}`;
const whose = (run, of) => (of > 1 ? `median of ${of}; the nearest: ` : "") + told(run);

const rankOf = (value, among) =>
  among.filter(x => x < value).length + (among.filter(x => x === value).length + 1) / 2;

/** The geometric mean of the ratios to the reference of rows of several problems, with its interval where none has
 * too few seeds. */
function geometric(part, rows) {
  const share = 1 / rows.length, strata = rows.flatMap(row => [row.counted, row.against]);
  const [value, low, high] = contrast(rows.flatMap(() => [share, -share]), strata);
  return strata.every(row => row.length >= part.least_seeds) ? [value, low, high] : [value, NaN, NaN];
}

/** Solvers, at their best settings, on the problems that all those shown have run with as many seeds, less those on which the
 * tables rank nobody; Infinity where not solved or void, which `voids` counts. `behind` has [whose, command] of each of `seconds`. */
function across(part, slack) {
  const runners = part.solvers.filter(solver => !part.hidden.has(solver) &&
    part.cells.some(cell => cell.solver === solver && cell.runs.some(run => run.stairs.length)));
  const has = (solver, dataset) => part.cells.some(c => c.solver === solver && c.dataset === dataset && !c.beside);
  const problems = part.validated.filter(dataset =>
    runners.length && !part.refused[dataset] && runners.every(solver => has(solver, dataset)));
  const [seconds, ratios, behind] = [0, 1, 2].map(() => runners.map(() => [])), marks = runners.map(() => ""), voids = runners.map(() => 0);
  for (const dataset of problems) {
    const { rows: found } = standing(part, dataset, slack);
    runners.forEach((solver, i) => {
      const row = found.find(one => one.cell.solver === solver && one.cell.chosen);
      seconds[i].push(row.solved ? row.seconds : Infinity);
      voids[i] += row.isVoided;
      behind[i].push([whose(row.nearest, row.of), row.nearest.command]);
      if (!Number.isFinite(row.ratio) || row.ratioVoided) return;
      ratios[i].push(row);
      marks[i] ||= row.mark;
    });
  }
  const ranks = runners.map((_, i) =>
    mean(problems.map((_, p) => rankOf(seconds[i][p], seconds.map(times => times[p])))));
  const means = ratios.map((rows, i) => (!rows.length ? [NaN, NaN, NaN] : runners[i] === part.reference ? [1, NaN, NaN] : geometric(part, rows)));
  return { solvers: runners, problems, seconds, behind, ranks, geometric: means, marks, voids, counts: ratios.map(found => found.length) };
}

/** The share of problems on which a solver takes at most tau times the best (Dolan and More 2002), at its jumps: [tau, share,
 * the numbers of the problems that jump there]. */
function profile(seconds) {
  const best = seconds[0]?.map((_, p) => Math.min(...seconds.map(times => times[p]))) ?? [];
  return seconds.map(times => shares(times.map((time, p) => (time === Infinity ? Infinity : time / best[p]))));
}

function shares(values) {
  const sorted = [...values.keys()].filter(p => Number.isFinite(values[p])).sort((a, b) => values[a] - values[b]);
  const last = sorted.filter((p, i) => values[p] !== values[sorted[i + 1]]);
  return last.map(p => [values[p], (sorted.indexOf(p) + 1) / values.length, sorted.filter(one => values[one] === values[p])]);
}
