// Unpacks the runtime and the model from this page, and runs the model on what is shown of a clip.
const RATE = 30, SHOWN = 8, PAUSE = 1.2;
const element = (id) => document.getElementById(id);
const about = JSON.parse(element("about").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const floats = (text) => new Float32Array(bytes(text).buffer);

async function unpack(id) {
  const packed = new Blob([bytes(element(id).textContent)]);
  element(id).textContent = "";
  return new Uint8Array(await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

async function load() {
  const address = URL.createObjectURL(new Blob([await unpack("module")], { type: "text/javascript" }));
  const ort = await import(address);
  ort.env.wasm.numThreads = 1;  // more need headers that a file does not have
  ort.env.wasm.wasmBinary = (await unpack("wasm")).buffer;
  const session = await ort.InferenceSession.create(await unpack("model"), { executionProviders: ["wasm"] });
  return { ort, session };
}

const clips = about.clips.map((clip) => ({ ...clip, input: floats(clip.input), points: floats(clip.points) }));

// The first frames of a clip: x (1, C, T, V, M)
function start(clip, wanted) {
  const [C, T, V, M] = clip.shape, row = V * M, frames = Math.min(wanted, T), x = new Float32Array(C * frames * row);
  for (let c = 0; c < C; c++) x.set(clip.input.subarray(c * T * row, (c * T + frames) * row), c * frames * row);
  return { x, dims: [1, C, frames, V, M] };
}

async function predict({ ort, session }, number, frames) {
  const { x, dims } = start(clips[number], frames), began = performance.now();
  const { logits } = await session.run({ x: new ort.Tensor("float32", x, dims) });
  return { logits: Array.from(logits.data), milliseconds: performance.now() - began };
}

function softmax(logits) {
  const most = Math.max(...logits), powers = logits.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

function showAnswer(clip, frames, answer) {
  const shares = softmax(answer.logits);
  const order = shares.map((_, label) => label).sort((a, b) => shares[b] - shares[a]).slice(0, SHOWN);
  element("bars").replaceChildren(...order.map((label, place) => {
    const row = document.createElement("div"), name = document.createElement("span");
    const bar = document.createElement("span"), fill = document.createElement("i"), share = document.createElement("span");
    row.className = place ? "row" : "row best";
    name.textContent = name.title = about.classes[label];
    bar.className = "bar";
    fill.style.width = `${100 * shares[label]}%`;
    share.textContent = `${Math.round(100 * shares[label])} %`;
    bar.append(fill);
    row.append(name, bar, share);
    return row;
  }));
  element("title").textContent = `${about.classes[order[0]]}, ${Math.round(100 * shares[order[0]])} %`;
  const recorded = clip.label === null ? "" : `; recorded as ${clip.label}`;
  element("time").textContent = `${frames} of ${clip.shape[1]} frames, ${answer.milliseconds.toFixed(0)} ms${recorded}`;
}

function limits(points) {
  const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  points.forEach((value, index) => {
    if (Number.isNaN(value)) return;
    low[index % 2] = Math.min(low[index % 2], value);
    high[index % 2] = Math.max(high[index % 2], value);
  });
  return { low, high };
}

function draw(clip, frame) {
  const canvas = element("scene"), size = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== size) canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"), [, , V, M] = clip.shape, { low, high } = clip.limits;
  const scale = 0.86 * size / Math.max(high[0] - low[0], high[1] - low[1], 1e-9);
  context.clearRect(0, 0, size, size);
  context.lineCap = "round";
  context.lineWidth = size / 110;
  const place = (person, joint) => {
    const at = ((frame * M + person) * V + joint) * 2;
    return [0, 1].map((axis) => size / 2 + (axis ? -scale : scale) * (clip.points[at + axis] - (low[axis] + high[axis]) / 2));
  };
  for (let person = 0; person < M; person++)
    for (const [child, parent] of about.bones) {
      const from = place(person, child), to = place(person, parent);
      if ([...from, ...to].some(Number.isNaN)) continue;
      context.strokeStyle = person ? about.people[(person - 1) % about.people.length] : about.colours[child];
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
    }
}

async function play(model) {
  let number = 0, began = performance.now(), asked = 0;
  const select = element("clips");
  select.disabled = false;
  select.addEventListener("change", () => { number = select.selectedIndex; began = performance.now(); asked = 0; });
  for (const clip of clips) clip.limits = limits(clip.points);
  const step = async (now) => {
    const clip = clips[number], T = clip.shape[1], at = (now - began) / 1000 * RATE;
    const frame = Math.max(0, Math.min(T - 1, Math.floor(at)));
    draw(clip, frame);
    const whole = Math.floor((frame + 1) / about.patch) * about.patch;
    if (whole > asked) {
      const shown = number;
      asked = whole;
      const answer = await predict(model, number, whole);
      if (shown === number) showAnswer(clip, whole, answer);
    }
    if (at > T + PAUSE * RATE) { began = performance.now(); asked = 0; }
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

clips.forEach((clip) => element("clips").append(new Option(clip.name)));
try {
  const model = await load();
  // for tests and for pages that embed this one
  window.slimFast = { clips: clips.map((clip) => clip.name), predict: (number, frames) => predict(model, number, frames) };
  await play(model);
} catch (error) {
  element("title").textContent = `This browser cannot run the model: ${error.message}`;
  throw error;
}
