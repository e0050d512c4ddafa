// Nodes of the document, the clipboard, and files to save.

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
  const inert = text => (/^([=+@\t\r]|-(?![\d.]))/.test(text) ? `'${text}` : text);  // a spreadsheet would compute a formula from a record
  const quote = text => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const text = lines.map(line => line.map(value => quote(inert(String(value)))).join(",")).join("\n") + "\n";
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: `${name}.csv` });
  link.click();
  URL.revokeObjectURL(link.href);
}
