"use strict";

const root = document.documentElement;
const plots = JSON.parse(document.getElementById("plots").textContent);
const say = (text) => { document.getElementById("status").textContent = text; };

// --- colors: pictures name variables of the style sheet, Plotly needs the colors of the current theme

const probe = document.body.appendChild(document.createElement("span"));
probe.hidden = true;
const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

const known = new Map(); // of the current theme

function resolved(name) {
  if (!known.has(name)) known.set(name, computed(name));
  return known.get(name);
}

function computed(name) {
  probe.style.color = name;
  pixel.clearRect(0, 0, 1, 1);
  pixel.fillStyle = getComputedStyle(probe).color;
  pixel.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
  return `rgba(${r},${g},${b},${(a / 255).toFixed(3)})`;
}

function themed(value) {
  if (typeof value === "string") return value.startsWith("var(--") ? resolved(value) : value;
  if (Array.isArray(value)) return value.map(themed);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item)]));
}

// --- pictures

const chosen = (box) => Number(document.querySelector(`select[data-plot="${box.id}"]`)?.value ?? 0);
const specOf = (box) => plots[box.dataset.plot][chosen(box)];

async function draw(box) {
  for (const key of document.querySelectorAll(`.key[data-plot="${box.id}"]`)) key.hidden = Number(key.dataset.number) !== chosen(box);
  const { data, layout } = themed(specOf(box));
  await Plotly.react(box, data, layout, { displayModeBar: false });
  if (layout.meta?.labels) await nameFrom(box, layout);
}

let drawing = 0;

async function drawAll() { // from the top, so that the first picture is there at once
  const mine = ++drawing;
  for (const box of document.querySelectorAll(".plot")) {
    await draw(box);
    await new Promise((next) => { setTimeout(next); });
    if (mine !== drawing) return false; // the theme has changed again
  }
  await compareTwo();
  return true;
}

for (const choice of document.querySelectorAll("select[data-plot]")) {
  choice.addEventListener("change", () => draw(document.getElementById(choice.dataset.plot)));
}

// a name at each point, where there is room for it: near the point, and on no other point, whisker or name

const LABEL_FONT = 11;
const STEPS = [13, 20, 30, 44, 62, 84];
const TURNS = [-90, 0, 180, 90, -45, -135, 45, 135].map((degrees) => (degrees * Math.PI) / 180);

function nameFrom(box, layout) {
  const { xaxis, yaxis } = box._fullLayout;
  pixel.font = `${LABEL_FONT}px system-ui, sans-serif`;
  const spots = layout.meta.labels.map(({ x, y, text }) => {
    const shown = text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
    return { x, y, text, left: xaxis.d2p(x), top: yaxis.d2p(y), width: pixel.measureText(shown).width + 6, height: LABEL_FONT + 4 };
  });
  const taken = [...spots.map(({ left, top }) => [left - 7, top - 7, left + 7, top + 7]), ...whiskersOf(box, xaxis, yaxis)];
  const meet = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const annotations = [...(layout.annotations ?? [])];
  const color = resolved("var(--muted)");
  const ink = resolved("var(--ink)");
  for (const spot of spots) {
    let best = null;
    for (const step of STEPS) {
      for (const turn of TURNS) {
        const side = Math.sign(Math.round(2 * Math.cos(turn)));  // beside the point, or over or under it
        const ax = step * Math.cos(turn) + (side * spot.width) / 2;
        const ay = Math.sin(turn) * step;
        const area = [spot.left + ax - spot.width / 2, spot.top + ay - spot.height / 2, spot.left + ax + spot.width / 2, spot.top + ay + spot.height / 2];
        const outside = Math.max(0, -area[0]) + Math.max(0, area[2] - xaxis._length) + Math.max(0, -area[1]) + Math.max(0, area[3] - yaxis._length);
        const cost = taken.reduce((sum, other) => sum + meet(area, other), 0) + 40 * outside;
        if (best === null || cost < best.cost) best = { cost, ax, ay, area };
      }
      if (best.cost === 0) break;
    }
    taken.push(best.area);
    annotations.push({
      x: spot.x, y: spot.y, ax: best.ax, ay: best.ay, text: spot.text, font: { size: LABEL_FONT, color: ink },
      showarrow: true, arrowhead: 0, arrowwidth: 0.75, arrowcolor: color, standoff: 6, xanchor: "center", yanchor: "middle", borderpad: 1,
    });
  }
  return Plotly.relayout(box, { annotations });
}

function whiskersOf(box, xaxis, yaxis) { // areas that the whiskers of single points cover
  const areas = [];
  for (const trace of box.data) {
    for (const [axis, bars] of [["x", trace.error_x], ["y", trace.error_y]]) {
      if (!bars?.visible || !bars.arrayminus) continue;
      const [x, y] = [trace.x[0], trace.y[0]];
      const [up, down] = [bars.array[0] ?? 0, bars.arrayminus[0] ?? 0];
      const [low, high] = axis === "x" ? [[x - down, y], [x + up, y]] : [[x, y - down], [x, y + up]];
      areas.push([xaxis.d2p(low[0]) - 2, yaxis.d2p(high[1]) - 2, xaxis.d2p(high[0]) + 2, yaxis.d2p(low[1]) + 2]);
    }
  }
  return areas;
}

async function resize(box) {
  if (!box.layout) return; // not drawn
  await Plotly.Plots.resize(box);
  if (box.layout.meta?.labels) await nameFrom(box, themed(specOf(box).layout));
}

const widths = new Map();
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const before = widths.get(target);
    widths.set(target, target.clientWidth);
    if (before !== undefined && before !== target.clientWidth && root.dataset.ready) resize(target);
  }
});
for (const box of document.querySelectorAll(".plot, .plot-of-two")) resized.observe(box);

for (const button of document.querySelectorAll("button[data-image]")) {
  button.addEventListener("click", () => {
    const box = document.getElementById(button.dataset.plot);
    const names = new Set(box.data.filter((trace) => trace.showlegend !== false && trace.name).map((trace) => trace.name));
    const more = names.size > 0 ? 40 + 20 * Math.ceil((names.size * 190) / box.clientWidth) : 0;
    const height = box.clientHeight + more;
    const margin = { ...box.layout.margin, b: (box.layout.margin?.b ?? 0) + more };
    Plotly.downloadImage({ data: box.data, layout: { ...box.layout, showlegend: names.size > 0, height, margin } }, {
      format: button.dataset.image, filename: box.dataset.plot, scale: 2, width: box.clientWidth, height,
    });
  });
}

// --- theme: that of the system until the button is pressed

const system = matchMedia("(prefers-color-scheme: dark)");
const toggle = document.getElementById("theme");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

async function showTheme() {
  delete root.dataset.ready;
  known.clear();
  toggle.setAttribute("aria-pressed", String(isDark()));
  if (await drawAll()) root.dataset.ready = "yes";
}

toggle.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
system.addEventListener("change", showTheme);

// --- tables

const valueOf = (row, column) => row.cells[column].dataset.value;

function compare(a, b, direction) {
  if (a === "" || b === "") return (a === "") - (b === ""); // missing values stay last
  const [x, y] = [Number(a), Number(b)];
  return direction * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y);
}

function sortBy(head) {
  const table = head.closest("table");
  const column = head.cellIndex;
  const before = head.getAttribute("aria-sort");
  const first = head.classList.contains("number") ? "descending" : "ascending";
  const order = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", order);
  const direction = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(valueOf(a, column), valueOf(b, column), direction));
  table.tBodies[0].append(...rows);
  say(`Sorted by ${head.textContent.trim()}, ${order}.`);
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

const rowsOf = (table) => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const headsOf = (table) => [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());

function csvOf(table) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = rowsOf(table).map((row) => [...row.cells].map((cell) => cell.dataset.value));
  return [headsOf(table), ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");
}

const TEX = {
  "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_",
  "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "±": "$\\pm$", "−": "$-$", "–": "--", "·": "$\\cdot$", "|": "$|$",
};
const tex = (text) => text.replace(/[\\{}&%$#_~^<>±−–·|]/g, (letter) => TEX[letter]);

function latexOf(table) {
  const line = (cells) => `${cells.map(tex).join(" & ")} \\\\`;
  const align = [...table.tHead.rows[0].cells].map((cell) => (cell.classList.contains("number") ? "r" : "l")).join("");
  const rows = rowsOf(table).map((row) => line([...row.cells].map((cell) => cell.textContent.trim())));
  const caption = table.caption.textContent.trim().replace(/\s+/g, " ").replaceAll("%", "");
  return [`% ${caption}`, "% needs \\usepackage{booktabs}", `\\begin{tabular}{${align}}`, "\\toprule", line(headsOf(table)), "\\midrule", ...rows, "\\bottomrule", "\\end{tabular}", ""].join("\n");
}

function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

for (const button of document.querySelectorAll("button[data-csv]")) {
  button.addEventListener("click", () => save(`${button.dataset.csv}.csv`, csvOf(document.getElementById(button.dataset.csv)), "text/csv"));
}
for (const button of document.querySelectorAll("button[data-latex]")) {
  button.addEventListener("click", () => save(`${button.dataset.latex}.tex`, latexOf(document.getElementById(button.dataset.latex)), "application/x-tex"));
}

// --- filters: rows of a table, and the lines of the same names in its picture

for (const box of document.querySelectorAll(".filters")) {
  const table = document.getElementById(box.dataset.table);
  const heads = headsOf(table);
  const field = (text, input) => {
    const label = document.createElement("label");
    label.append(text, input);
    input.setAttribute("aria-label", `Filter by ${text}`);
    box.append(label);
    input.addEventListener("input", () => filter(box, table));
    return input;
  };
  for (const name of box.dataset.columns.split("\n")) {
    const column = heads.indexOf(name);
    const select = document.createElement("select");
    const values = new Set([...table.tBodies[0].rows].map((row) => row.cells[column].textContent));
    select.append(new Option("all", ""), ...[...values].map((value) => new Option(value, value)));
    select.dataset.column = column;
    field(name, select);
  }
  const search = document.createElement("input");
  search.type = "search";
  field("words", search);
}

function filter(box, table) {
  const words = box.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = [...box.querySelectorAll("select")].filter((select) => select.value !== "");
  const names = new Set();
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    const fits = wanted.every((select) => row.cells[Number(select.dataset.column)].textContent === select.value);
    row.hidden = !(fits && words.every((word) => text.includes(word)));
    if (!row.hidden) names.add(row.cells[0].textContent);
  }
  const plot = document.getElementById(box.dataset.plot);
  Plotly.restyle(plot, { visible: specOf(plot).layout.meta.rows.map((name) => names.has(name)) });
  say(`${names.size} of ${table.tBodies[0].rows.length} rows.`);
}

// --- two runs, clip by clip

const folders = JSON.parse(document.getElementById("decisions").textContent);
const runs = folders.flatMap((folder) => folder.runs.map((run) => ({ ...run, folder })));
const [first, second] = ["a", "b"].map((letter) => document.getElementById(`compare-${letter}`));
const MOST = 20;

if (first) {
  for (const select of [first, second]) {
    select.append(...runs.map((run, i) => new Option(run.name, String(i))));
    select.addEventListener("change", compareTwo);
  }
  second.value = "1";
}

function decisionsOf(run) {
  const { folder } = run;
  return new Map(folder.ids.map((id, i) => [id, { target: folder.target[i], pred: run.preds[i], share: run.shares?.[i] ?? null }]).filter(([, each]) => each.pred !== null && each.target !== null));
}

// a class, labels or a number as text
const toNames = {
  multiclass: (folder, c) => folder.classes[c],
  multilabel: (folder, labels) => labels.map((c) => folder.classes[c]).join(", ") || "no label",
  regression: (folder, value) => value.toFixed(3),
};
// what is decided about a clip: the name of a class or label, and whether the decision is right
const decided = {
  multiclass: (folder, { target, pred }) => [[folder.classes[target], pred === target]],
  multilabel: (folder, { target, pred }) => folder.classes.map((name, c) => [name, pred.includes(c) === target.includes(c)]),
  regression: () => [],
};
const error = ({ target, pred }) => Math.abs(pred - target);

function changeOf(task, one, two, isRight) {
  if (task === "regression") return ["nearer", "as far", "further"][1 + Math.sign(error(two) - error(one))];
  const [before, after] = [one, two].map((each) => (isRight(each) ? "right" : "wrong"));
  return before === "wrong" && after === "wrong" ? "wrong to another wrong" : `${before} to ${after}`;
}

const mean = (values) => (values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length);
const asText = (value) => (value === null ? "–" : typeof value === "number" && !Number.isInteger(value) ? value.toFixed(2) : String(value));

function fill(id, rows) {
  const body = document.getElementById(id).tBodies[0];
  const numbers = [...body.parentElement.tHead.rows[0].cells].map((cell) => cell.classList.contains("number"));
  body.replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    row.forEach((value, i) => {
      const cell = line.appendChild(document.createElement(i === 0 ? "th" : "td"));
      if (i === 0) cell.scope = "row";
      if (numbers[i]) cell.className = "number";
      cell.dataset.value = value === null ? "" : String(value);
      cell.textContent = numbers[i] && id === "compare-clips" && value !== null ? value.toFixed(2) : asText(value);
    });
    return line;
  }));
}

function compareTwo() {
  if (!first) return undefined;
  const [a, b] = [first, second].map((select) => runs[Number(select.value)]);
  const { task } = a.folder;
  const [ofA, ofB] = task === b.folder.task ? [a, b].map(decisionsOf) : [new Map(), new Map()];
  const named = (value) => toNames[task](a.folder, value);
  const byClass = new Map();
  const clips = [];
  const errors = [];
  for (const [id, one] of ofA) {
    const other = ofB.get(id);
    if (other === undefined || toNames[task](b.folder, other.target) !== named(one.target)) continue;
    const two = { ...other, pred: translated(other.pred, b.folder, a.folder), target: one.target };
    const after = new Map(decided[task](a.folder, two));
    for (const [name, isRight] of decided[task](a.folder, one)) {
      if (!byClass.has(name)) byClass.set(name, { clips: 0, shares: [[], []] });
      const counts = byClass.get(name);
      const kind = `${isRight ? "right" : "wrong"} to ${after.get(name) ? "right" : "wrong"}`;
      counts.clips += 1;
      counts[kind] = (counts[kind] ?? 0) + 1;
      [one, two].forEach(({ share }, i) => { if (share !== null) counts.shares[i].push(share / 100); });
    }
    errors.push([error(one), error(two)]);
    if (named(one.pred) !== named(two.pred)) {
      const change = changeOf(task, one, two, (each) => named(each.pred) === named(each.target));
      clips.push([id, named(one.target), change, named(one.pred), named(two.pred), ...[one, two].map(({ share }) => (share === null ? null : share / 100))]);
    }
  }
  if (task === "regression") clips.sort((x, y) => gapOf(y) - gapOf(x));
  const kinds = ["right to right", "wrong to right", "right to wrong", "wrong to wrong"];
  const rows = [...byClass].map(([name, counts]) => [name, counts.clips, ...kinds.map((kind) => counts[kind] ?? 0), ...counts.shares.map(mean)]);
  fill("compare-classes", rows);
  fill("compare-clips", clips);
  document.getElementById("compare-words").textContent = wordsOfTwo(a, b, rows, errors);
  for (const box of document.querySelectorAll(".of-classes")) box.hidden = rows.length === 0;
  return rows.length === 0 ? undefined : drawTwo(rows);
}

// classes of another folder may have other numbers
function translated(pred, from, to) {
  if (from === to || from.task === "regression") return pred;
  const number = (c) => to.classes.indexOf(from.classes[c]);
  return Array.isArray(pred) ? pred.map(number) : number(pred);
}

const gapOf = ([, target, , one, two]) => Math.abs(Math.abs(one - target) - Math.abs(two - target));

function wordsOfTwo(a, b, rows, errors) {
  if (errors.length === 0) return "These runs were tested on no common clip, or predict different things.";
  const shares = `Shares are of ${a.folder.modality}${a.folder.modality === b.folder.modality ? "" : ` and of ${b.folder.modality}`}.`;
  if (a.folder.task === "regression") {
    const nearer = errors.filter(([one, two]) => two < one).length;
    const further = errors.filter(([one, two]) => two > one).length;
    const [before, after] = [0, 1].map((i) => mean(errors.map((each) => each[i])).toFixed(3));
    return `Of ${errors.length} clips that both were tested on, the second run is nearer to the true number for ${nearer} and further from it for ${further}; MAE ${before} and ${after}. ${shares}`;
  }
  const total = (column) => rows.reduce((sum, row) => sum + row[column], 0);
  const counted = a.folder.task === "multilabel" ? `${total(1)} labels of ${errors.length} clips` : `${total(1)} clips`;
  return `Of ${counted} that both were tested on, ${total(3)} change from wrong to right and ${total(4)} from right to wrong; ${total(2)} are right in both and ${total(5)} wrong in both. ${shares}`;
}

function drawTwo(rows) {
  const ranked = [...rows].sort((x, y) => y[3] + y[4] - x[3] - x[4]).slice(0, MOST).reverse();
  const bars = (column, sign, name, color, shape) => ({
    type: "bar", orientation: "h", name, y: ranked.map((row) => row[0].replaceAll("<", "&lt;")), x: ranked.map((row) => sign * row[column]),
    marker: { color: resolved(color), pattern: { shape, fgcolor: resolved("var(--surface)"), size: 7, solidity: 0.25, fillmode: "overlay" } },
    customdata: ranked.map((row) => row[column]), hovertemplate: `%{y}<br>${name}: %{customdata} clips<extra></extra>`,
  });
  const longest = Math.max(...ranked.flatMap((row) => [row[3], row[4]]));
  const whole = longest < 6 ? { dtick: 1 } : {}; // clips are whole
  const axis = { gridcolor: resolved("var(--grid)"), zerolinecolor: resolved("var(--muted)"), automargin: true, fixedrange: true };
  const layout = {
    barmode: "relative", height: 90 + 24 * ranked.length, showlegend: false, dragmode: false, margin: { l: 8, r: 12, t: 8, b: 8 },
    paper_bgcolor: resolved("var(--surface)"), plot_bgcolor: resolved("var(--surface)"), font: { family: "system-ui, sans-serif", size: 13, color: resolved("var(--ink)") },
    xaxis: { ...axis, ...whole, title: { text: "clips", font: { size: 13 } }, rangemode: "tozero" }, yaxis: { ...axis, type: "category" },
  };
  return Plotly.react("compare-plot", [bars(3, 1, "wrong to right", "var(--ink)", ""), bars(4, -1, "right to wrong", "var(--muted)", "/")], layout, { displayModeBar: false });
}

// --- commands

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copy);
    getSelection().selectAllChildren(code); // works without access to the clipboard, too
    try {
      await navigator.clipboard.writeText(code.textContent);
      say("Copied.");
    } catch {
      say("Selected; copy it with the keyboard.");
    }
  });
}

showTheme();
