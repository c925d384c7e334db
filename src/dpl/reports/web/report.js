// The epoch slider: redraws both heatmaps from the embedded values (tenths of the unit, layer by layer), by hand or playing.
(() => {
  const slider = document.getElementById("epoch");
  if (!slider) return; // no search, or a single epoch
  const data = JSON.parse(document.getElementById("search-history").textContent);
  const shown = document.getElementById("epoch-shown");
  const button = document.getElementById("play");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const last = data.epochs.length - 1;
  const pace = Math.min(400, Math.max(80, 5000 / last)); // milliseconds for an epoch, some 5 seconds for all
  let timer = 0;
  const draw = () => {
    const at = Number(slider.value);
    const darkest = data.darkest[at];
    for (const branch of ["image", "text"]) {
      const values = data[branch].values[at];
      const outlined = data[branch].outlined[at];
      document.querySelectorAll(`#heat-${branch} .cell`).forEach((cell, index) => {
        const value = values[index];
        const [title, , rect, text] = cell.children;
        const label = title.textContent;
        title.textContent = `${label.slice(0, label.lastIndexOf(":"))}: ${(value / 10).toFixed(1)} ${data.unit}`;
        rect.setAttribute("fill-opacity", value / darkest);
        text.textContent = value >= 10 ? Math.floor((value + 5) / 10) : "";
        cell.classList.toggle("strong", 1000 * value >= data.strong * darkest);
        cell.classList.toggle("chosen", outlined[index] === "1");
      });
    }
    shown.textContent = data.epochs[at];
    slider.setAttribute("aria-valuetext", `after epoch ${data.epochs[at]}`);
  };
  // The button plays once to the end; where the person wants less motion it goes on by one epoch.
  const name = () => {
    button.textContent = timer ? "Pause" : still.matches ? "Next" : "Play";
    button.setAttribute("aria-label", timer ? "Pause" : still.matches ? "Next epoch" : "Play through the epochs");
    shown.setAttribute("aria-live", timer ? "off" : "polite"); // nobody wants every epoch read out
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    name();
  };
  const step = () => {
    const at = Number(slider.value);
    slider.value = at === last ? 0 : at + 1;
    draw();
    if (Number(slider.value) === last) stop();
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (!still.matches) timer = setInterval(step, pace);
    name();
    step();
  });
  slider.addEventListener("input", () => {
    stop();
    draw();
  });
  still.addEventListener("change", stop);
  name();
  document.documentElement.classList.add("scripted");
})();
