// How often each norm occurs, with the candidates and the rules that others use.
const distribution = (place) => {
  const d = D.distribution;
  const mids = d.stable.map((_, i) => Math.sqrt(d.edges[i] * d.edges[i + 1]));
  const all = d.stable.map((v, i) => v + d.spikes[i] + d.others[i]);
  const some = (part) => part.some((v) => v);

  const items = [];
  if (some(d.stable)) items.push(["norm", "stable steps", "area"]);
  if (some(d.others)) items.push(["rule", some(d.stable) ? "warm-up and others" : "steps", "area"]);
  if (some(d.spikes)) items.push(["spike", "spikes", "area"]);
  if (d.marks.some((m) => m.kind === "rule")) items.push(["soft", "▾ rules that others use"]);
  place.append(key(items));

  const now = element("div", "now");
  const tell = teller(now, (i) => {
    const [low, high] = [d.edges[i], d.edges[i + 1]];
    const spikes = d.spikes[i] ? `, ${count(d.spikes[i])} of them spikes` : "";
    const near = d.marks.filter((m) => m.value >= low && m.value <= high).map((m) => `${m.name} ${short(m.value)}`);
    return `${short(low)} to ${short(high)}: ${count(all[i])} steps${spikes}${near.length ? ` (${near.join(", ")})` : ""}`;
  });

  const bars = (u) =>
    inside(u, () => {
      const zero = yOf(u, 0);
      for (let i = 0; i < all.length; i++) {
        const a = xOf(u, d.edges[i]);
        const b = xOf(u, d.edges[i + 1]);
        let base = zero;
        for (const [part, name] of [[d.stable, "norm"], [d.others, "rule"], [d.spikes, "spike"]]) {
          if (!part[i]) continue;
          // at least two pixels, since spikes are few
          const tall = Math.max(zero - yOf(u, part[i]), px(2));
          bar(u, a, b - Math.min(px(1), (b - a) / 4), base - tall, base, colour(name));
          base -= tall;
        }
      }
    });
  const over = (u) => {
    const { left, top, width, height } = u.bbox;
    uprights(u, d.marks);
    for (const m of d.marks.filter((m) => m.kind === "rule")) {
      const x = xOf(u, m.value);
      if (x >= left && x <= left + width) words(u, "▾", x, top + height - px(5), colour("soft"), "center");
    }
  };

  plot(
    place,
    {
      height: 260,
      cursor: { drag: { x: false, y: false } },
      scales: {
        x: logScale([d.edges[0], d.edges[d.edges.length - 1]]),
        y: { range: (u, low, high) => [0, Math.max(high, 1) * 1.08] },
      },
      axes: [thresholdAxis(D.course.unit), axis({ size: 48, values: whole })],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { drawAxes: [bars], draw: [over], setCursor: [tell] },
    },
    [mids, all],
    now,
  );
};
