// Tables that sort, filter and are saved as CSV.

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
