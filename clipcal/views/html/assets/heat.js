// The layers' norms over the steps, each as a multiple of its usual one: a cell is a byte, 60 the usual, 20 more twice that.
const NO_GRADIENT = 255;
const octaves = (cell) => (cell - 60) / 20;

const heat = (place) => {
  const d = D.heat;
  const cells = bytes(d.cells);
  const columns = d.first.length;

  const ramp = element("span", "scale");
  ramp.style.background = `linear-gradient(90deg, rgba(${colour("cold")}, 0.7), transparent 30%, rgba(${colour("heat")}, 1))`;
  const said = element("span");
  said.append("an eighth of the usual", ramp, "32 times");
  const above = element("div", "key");
  above.append(said);

  const canvas = element("canvas");
  canvas.width = columns;
  canvas.height = d.names.length;
  const ctx = canvas.getContext("2d");
  const paint = ctx.createImageData(columns, d.names.length);
  const [hot, cold] = ["heat", "cold"].map((n) => colour(n).split(",").map(Number));
  for (let i = 0; i < cells.length; i++) {
    if (cells[i] === NO_GRADIENT) continue;
    const rise = octaves(cells[i]);
    const alpha = rise > 0 ? Math.min(rise / 5, 1) : Math.min(-rise / 3, 0.7);
    paint.data.set([...(rise > 0 ? hot : cold), Math.round(255 * alpha)], 4 * i);
  }
  ctx.putImageData(paint, 0, 0);

  const map = element("div", "map");
  d.names.forEach((name, i) => {
    const layer = element("span", "layer", "\u200e" + name);
    layer.title = name;
    map.append(layer, element("span", "part", percent(d.shares[i]).replace(/\.\d+%/, "%")));
  });
  const span = element("div", "steps");
  span.append(element("span", "", `step ${count(d.first[0])}`), element("span", "", count(d.last)));
  map.append(canvas, span);

  const now = element("div", "now");
  canvas.addEventListener("mousemove", (e) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.min(Math.floor(((e.clientX - box.left) / box.width) * columns), columns - 1);
    const y = Math.min(Math.floor(((e.clientY - box.top) / box.height) * d.names.length), d.names.length - 1);
    if (x < 0 || y < 0) return;
    const cell = cells[y * columns + x];
    const until = x + 1 < columns ? d.first[x + 1] - 1 : d.last;
    const when = until > d.first[x] ? `steps ${count(d.first[x])} to ${count(until)}` : `step ${count(d.first[x])}`;
    const times = `${cell >= 254 ? "over " : ""}${short(2 ** octaves(cell))} x its usual norm`;
    now.textContent = `${d.names[y]}, ${when}: ${cell === NO_GRADIENT ? "no gradient" : times}`;
  });
  canvas.addEventListener("mouseleave", () => (now.textContent = ""));
  place.append(above, map, now);
};
