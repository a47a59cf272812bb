// Moving skeletons on canvases that name a film, hovered points and rows that name some, a table
// that is sorted and searched. Films are described in slim_fast/reporting/films.py.
const store = JSON.parse(document.getElementById("films").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const points = new Uint16Array(bytes(store.points).buffer), marks = bytes(store.marks);
const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
const SECONDS = 2.5;

function draw(canvas, phase, colour) {
  const [start, frames, people, first, times] = store.films[canvas.dataset.film];
  const size = canvas.clientWidth * devicePixelRatio, context = canvas.getContext("2d");
  if (canvas.width !== Math.round(size)) canvas.width = canvas.height = Math.round(size);
  context.clearRect(0, 0, size, size);
  context.lineCap = "round";
  const at = phase * (frames - 1), before = Math.floor(at), after = Math.min(before + 1, frames - 1);
  const time = Math.min(times - 1, Math.floor(phase * times)), V = store.joints;
  const scale = (0.86 * size) / 65534, edge = 0.07 * size, unit = size / 160;
  for (let person = 0; person < people; person++) {
    const value = (frame, joint, axis) => points[start + ((frame * people + person) * V + joint) * 2 + axis];
    const place = (joint, axis) => edge + scale * (value(before, joint, axis) * (before + 1 - at) + value(after, joint, axis) * (at - before));
    const seen = (joint) => value(before, joint, 0) && value(after, joint, 0);
    const mark = (joint) => (times ? marks[first + (time * people + person) * V + joint] : 0);
    const hidden = (joint) => canvas.dataset.marks === "masks" && mark(joint);
    const tone = (joint) => (person ? colour(`--person-${(person - 1) % 4}`) : colour(`--${store.sides[joint]}`));
    for (const [child, parent] of store.bones) {
      if (!seen(child) || !seen(parent)) continue;
      const pale = hidden(child) || hidden(parent);
      context.strokeStyle = pale ? colour("--rule") : tone(child);
      context.lineWidth = (pale ? 1.2 : 2.2) * unit;
      context.beginPath();
      context.moveTo(place(child, 0), place(child, 1));
      context.lineTo(place(parent, 0), place(parent, 1));
      context.stroke();
    }
    for (let joint = 0; joint < V; joint++) {
      if (!seen(joint)) continue;
      const dot = (radius, paint) => {
        context.beginPath();
        context.arc(place(joint, 0), place(joint, 1), radius * unit, 0, 7);
        context.fillStyle = paint;
        context.fill();
      };
      dot(2.2, hidden(joint) ? colour("--paper") : tone(joint));
      const share = canvas.dataset.marks === "attention" ? mark(joint) / 255 : 0;
      context.globalAlpha = 0.65;
      if (share) dot(10 * share, colour("--attention"));
      context.globalAlpha = 1;
      if (hidden(joint)) { context.strokeStyle = colour("--grey"); context.lineWidth = unit; context.stroke(); }
    }
  }
}

function tick(now) {
  const looks = getComputedStyle(document.documentElement), known = {};
  const colour = (name) => (known[name] ??= looks.getPropertyValue(name).trim());
  for (const canvas of document.querySelectorAll("canvas[data-film]")) {
    const box = canvas.getBoundingClientRect();
    const inView = box.bottom > 0 && box.top < innerHeight;  // others are drawn once, for printing
    if (!box.width || (!inView && canvas.drawn === canvas.dataset.film)) continue;
    draw(canvas, reduced ? 0.5 : (now / 1000 / SECONDS) % 1, colour);
    canvas.drawn = canvas.dataset.film;
  }
  requestAnimationFrame(tick);
}
requestAnimationFrame(tick);

// shown: [film, words, neighbour's film, words]
function show(panel, shown) {
  panel.querySelectorAll("figure").forEach((figure, place) => {
    const [film, words] = shown.slice(2 * place, 2 * place + 2), canvas = figure.querySelector("canvas");
    figure.hidden = film === undefined || film === null;
    if (figure.hidden) return;
    canvas.dataset.film = film;
    canvas.setAttribute("aria-label", `moving skeleton: ${words}`);
    figure.querySelector("figcaption").textContent = words;
  });
}

const embedding = document.getElementById("embedding-plot");
if (embedding) {
  const panel = document.getElementById("embedding-panel");
  show(panel, embedding.data[0].customdata[0]);
  for (const event of ["plotly_hover", "plotly_click"])
    embedding.on(event, (hit) => show(panel, hit.points[0].customdata));
}

const table = document.getElementById("errors-table");
if (table) {
  const rows = [...table.tBodies[0].rows], panel = document.getElementById("errors-panel");
  show(panel, JSON.parse(rows[0].dataset.shown));
  for (const event of ["mouseover", "focusin", "click"])
    table.tBodies[0].addEventListener(event, (hit) => {
      const row = hit.target.closest("tr");
      if (row.dataset.shown) show(panel, JSON.parse(row.dataset.shown));
    });
  document.getElementById("errors-search").addEventListener("input", (typed) => {
    const wanted = typed.target.value.toLowerCase();
    rows.forEach((row) => (row.hidden = !row.textContent.toLowerCase().includes(wanted)));
  });
  table.tHead.querySelectorAll("button").forEach((button, column) => button.addEventListener("click", () => {
    const header = button.closest("th"), up = header.getAttribute("aria-sort") !== "ascending";
    table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].textContent;
    rows.sort((a, b) => key(a).localeCompare(key(b), undefined, { numeric: true }) * (up ? 1 : -1));
    table.tBodies[0].append(...rows);
  }));
}
