// The page: its parts, the slider, the filter, print and the theme.

const IDLE = 120;  // ms after which what is out of sight follows the slider

async function start() {
  const packed = [...document.querySelectorAll("script[type='application/octet-stream']")];
  const parts = (await Promise.all(packed.map(node => unpacked(node.textContent)))).map(read);
  const explored = parts.map(explore);
  const filters = [...document.querySelectorAll("table[data-name]")].map(enhance);
  const range = byId("handicap"), number = byId("handicap-number");
  let stale = [], later;
  const near = ({ box }) => { const at = box.getBoundingClientRect(); return at.bottom > -innerHeight && at.top < 2 * innerHeight; };
  const renew = which => {
    clearTimeout(later);
    stale.filter(which).forEach(one => one.follow());
    stale = stale.filter(one => !which(one));
    if (stale.length) later = setTimeout(() => renew(one => one === stale[0]), IDLE);
  };
  const move = () => { stale = [...explored]; renew(near); };  // what is seen at once, the rest when the slider rests
  addEventListener("scroll", () => renew(near), { passive: true });
  range.addEventListener("input", () => { number.value = range.value; move(); });
  number.addEventListener("input", () => { range.value = number.value; move(); });
  byId("filter").addEventListener("input", () => { filters.forEach(f => f()); explored.forEach(one => one.filter()); });
  let opened = [], theme;
  addEventListener("beforeprint", () => {
    renew(() => true);
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    opened = [...document.querySelectorAll("details.printed:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    document.documentElement.dataset.theme = theme;
    for (const one of opened) one.open = false;
  });
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
  performance.mark("report");
  window.report = { parts, target, standing, across, profile };  // for the console, and for tests
}

start().catch(error => {
  byId("unread").hidden = false;
  throw error;
});
