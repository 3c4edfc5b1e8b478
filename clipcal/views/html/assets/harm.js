// Each step's norm, and what the loss did after it.
const harm = (place) => {
  const d = D.harm;
  const norms = Array.from(f32(d.norms));
  const changes = Array.from(f32(d.changes));
  const written = (v) => signed(v, d.isRelative ? percent : short);

  // A few far changes would press the rest onto one line: they are drawn at the edge.
  const sorted = changes.slice().sort((a, b) => a - b);
  const cut = (q) => sorted[Math.min(Math.floor(q * sorted.length), sorted.length - 1)];
  const middle = cut(0.5);
  const reach = Math.max(cut(0.99) - middle, middle - cut(0.01), 1e-6) * 1.6;
  const low = Math.max(sorted[0], middle - reach);
  const high = Math.min(sorted[sorted.length - 1], middle + reach);
  const [least, most] = [norms[0], norms[norms.length - 1]];
  const room = Math.pow(most / least, 0.03) * 1.02;

  const items = [["norm", "a step", "dot"]];
  if (d.above != null) items.push(["spike", "median above"], ["level", "median below"]);
  if (d.maxNorm != null) items.push(["threshold", `${D.label} ${short(d.maxNorm)}`]);
  place.append(key(items));

  const now = element("div", "now");
  const tell = teller(now, (i) => `norm ${short(norms[i])}: loss ${written(changes[i])}`);

  const points = (u) =>
    inside(u, () => {
      const { top, height } = u.bbox;
      const many = norms.length > 800;
      const size = px(many ? 1.8 : 2.4);
      u.ctx.fillStyle = colour("norm");
      u.ctx.globalAlpha = many ? 0.35 : 0.6;
      const within = (y) => Math.min(Math.max(y, top + size), top + height - size);
      norms.forEach((norm, i) => dot(u, xOf(u, norm), within(yOf(u, changes[i])), size));
      u.ctx.globalAlpha = 1;
    });
  const over = (u) =>
    inside(u, () => {
      const { left, width } = u.bbox;
      const right = left + width;
      const across = (x0, x1, value, name, dash, thick) => {
        const y = yOf(u, value);
        rule(u, x0, y, x1, y, colour(name), dash, thick);
      };
      across(left, right, 0, "soft", [2, 3], 1);
      if (d.threshold != null) {
        across(left, xOf(u, d.threshold), d.below, "level", [], 2.5);
        across(xOf(u, d.threshold), right, d.above, "spike", [], 2.5);
      }
      if (d.maxNorm != null) upright(u, d.maxNorm, "chosen");
    });

  plot(
    place,
    {
      height: 260,
      cursor: { drag: { x: false, y: false } },
      scales: {
        x: logScale([least / room, most * room]),
        y: { range: () => [low - 0.05 * (high - low), high + 0.05 * (high - low)] },
      },
      axes: [thresholdAxis(D.course.unit), axis({ size: 56, values: (u, v) => v.map(d.isRelative ? written : short) })],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { drawAxes: [points], draw: [over], setCursor: [tell] },
    },
    [norms, changes],
    now,
  );
};
