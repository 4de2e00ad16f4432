"use strict";

const root = document.documentElement;
const plots = JSON.parse(document.getElementById("plots").textContent);
const say = (text) => { document.getElementById("status").textContent = text; };

// --- colors: pictures name variables of the style sheet, Plotly needs the colors of the current theme

const probe = document.body.appendChild(document.createElement("span"));
probe.hidden = true;
const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

function resolved(name) {
  probe.style.color = name;
  pixel.clearRect(0, 0, 1, 1);
  pixel.fillStyle = getComputedStyle(probe).color;
  pixel.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
  return `rgba(${r},${g},${b},${(a / 255).toFixed(3)})`;
}

function themed(value, seen) {
  if (typeof value === "string") {
    if (!value.startsWith("var(--")) return value;
    if (!seen.has(value)) seen.set(value, resolved(value));
    return seen.get(value);
  }
  if (Array.isArray(value)) return value.map((item) => themed(item, seen));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, seen)]));
}

// --- pictures

function draw(box) {
  const choice = document.querySelector(`select[data-plot="${box.id}"]`);
  const { data, layout } = themed(plots[box.dataset.plot][choice ? Number(choice.value) : 0], new Map());
  return Plotly.react(box, data, layout, { responsive: true, displayModeBar: false });
}

const drawAll = () => Promise.all([...document.querySelectorAll(".plot")].map(draw));

for (const choice of document.querySelectorAll("select[data-plot]")) {
  choice.addEventListener("change", () => draw(document.getElementById(choice.dataset.plot)));
}

for (const button of document.querySelectorAll("button[data-image]")) {
  button.addEventListener("click", () => {
    const box = document.getElementById(button.dataset.plot);
    Plotly.downloadImage(box, {
      format: button.dataset.image, filename: box.dataset.plot, scale: 2,
      width: box.clientWidth, height: box.clientHeight,
    });
  });
}

// --- theme: that of the system until the button is pressed

const system = matchMedia("(prefers-color-scheme: dark)");
const toggle = document.getElementById("theme");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

async function showTheme() {
  delete root.dataset.ready;
  toggle.setAttribute("aria-pressed", String(isDark()));
  await drawAll();
  root.dataset.ready = "yes";
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

function csvOf(table) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.dataset.value));
  return [heads, ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");
}

for (const button of document.querySelectorAll("button[data-csv]")) {
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csvOf(document.getElementById(button.dataset.csv))], { type: "text/csv" }));
    link.download = `${button.dataset.csv}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
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
