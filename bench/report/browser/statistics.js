// Numbers as bench.stats has them, and as they are written.

const median = values => {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

const LEVEL = 0.95, DRAWS = 2000;
const SMALL = 5;  // values a stratum, from which on medians are bootstrapped

/** [value, low, high] of prod_i median(strata_i)^weights_i, as bench.stats.contrast has it of logarithms. */
function contrast(weights, strata) {
  const logs = strata.map(row => row.map(Math.log)), lengths = logs.map(row => row.length);
  const value = sum(weights.map((weight, i) => weight * Math.log(median(strata[i]))));
  if (Math.max(...lengths) === 1) return [Math.exp(value), NaN, NaN];
  if (Math.min(...lengths) >= SMALL) return [value, ...resampled(weights, logs)].map(Math.exp);
  const [low, high] = welch(weights, logs);
  return [value, Math.min(low, value), Math.max(high, value)].map(Math.exp);
}

const sum = values => values.reduce((total, value) => total + value, 0);
const mean = values => sum(values) / values.length;

/** Ends of the interval of sum_i w_i mean(row_i) (Welch 1947). */
function welch(weights, rows) {
  const middle = sum(weights.map((weight, i) => weight * mean(rows[i])));
  const many = rows.map((row, i) => ({ row, weight: weights[i], n: row.length - 1 })).filter(({ n }) => n > 0);
  const parts = many.map(({ row, weight, n }) => weight ** 2 * sum(row.map(x => (x - mean(row)) ** 2)) / n / (n + 1));
  const total = sum(parts), freedom = total ** 2 / sum(parts.map((part, i) => part ** 2 / many[i].n));
  const half = total > 0 ? student(freedom) * Math.sqrt(total) : 0;
  return [middle - half, middle + half];
}

/** The t with P(|T| <= t) = LEVEL, of Student's T = sqrt(freedom) tan(angle), as the angle's density goes with
 * cos(angle)^(freedom - 1). */
function student(freedom) {
  const n = 2000, step = Math.PI / 2 / n, sums = [0];
  for (let i = 0; i < n; i++) sums.push(sums[i] + Math.cos((i + 0.5) * step) ** (freedom - 1));
  const wanted = LEVEL * sums[n], next = sums.findIndex(total => total >= wanted);
  return Math.sqrt(freedom) * Math.tan((next - (sums[next] - wanted) / (sums[next] - sums[next - 1])) * step);
}

/** Ends of the plain percentile interval of sum_i w_i median(row_i); each row is resampled by itself. */
function resampled(weights, rows) {
  const sorted = rows.map(row => row.toSorted((a, b) => a - b)), ranks = rows.map((row, i) => middles(row.length, i));
  const drawn = Float64Array.from({ length: DRAWS }, (_, j) =>
    sum(weights.map((weight, i) => weight * (sorted[i][ranks[i][2 * j]] + sorted[i][ranks[i][2 * j + 1]]) / 2))).sort();
  const at = share => drawn[Math.round(share * (DRAWS - 1))];
  return [at((1 - LEVEL) / 2), at((1 + LEVEL) / 2)];
}

const drawnMiddles = {};

/** Which two of n sorted values are in the middle of each resample, of the same draws for the i-th stratum every time. */
function middles(n, i) {
  const draw = () => {
    let state = 1 + n * 1000 + i;
    const below = () => {  // mulberry32
      state = (state + 0x6d2b79f5) | 0;
      let x = Math.imul(state ^ (state >>> 15), 1 | state);
      x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
      return Math.floor(((x ^ (x >>> 14)) >>> 0) / 2 ** 32 * n);
    };
    const resamples = Array.from({ length: DRAWS }, () => Uint16Array.from({ length: n }, below).sort());
    return resamples.flatMap(taken => [taken[(n - 1) >> 1], taken[n >> 1]]);
  };
  return drawnMiddles[`${n} ${i}`] ??= draw();
}

const significant = value => {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e7) return value.toExponential(1).replace("e+", "e");
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
};

const between = ([low, high]) => (high - low > 1e-9 * high ? ` [${significant(low)}, ${significant(high)}]` : "");

const short = value => {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(0).replace("e+", "e");
  return String(+value.toPrecision(3));
};
