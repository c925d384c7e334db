"use strict";
// Asks the server about each image, one question at a time, and again when the words change. All text is set as text.
(() => {
  const find = (id) => document.getElementById(id);
  const main = document.querySelector("main");
  const most = { bytes: Number(main.dataset.bytes), images: Number(main.dataset.images) };
  const names = find("names"), template = find("template");
  const own = { names: names.defaultValue, template: template.defaultValue };
  const images = []; // {name, data, card, label, stale}, newest first
  let version = 0, works = false;

  function tell(place, line) {
    place.textContent = line ?? "";
    place.hidden = !line;
  }

  async function ask(path, question) {
    let response, answer;
    try {
      response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) });
      answer = await response.json();
    } catch {
      const reason = response ? "the demo failed; its terminal says why" : "the demo does not answer; is dpl demo still running?";
      throw { of: "question", error: reason };
    }
    if (!response.ok) throw answer;
    return answer;
  }

  const words = () => ({ names: names.value, template: template.value });

  // The words

  async function reworded() {
    const asked = ++version;
    find("own").hidden = names.value === own.names && template.value === own.template;
    try {
      const { note } = await ask("words", words());
      if (asked !== version) return;
      tell(find("problem"), null);
      tell(find("note"), note);
    } catch (refused) {
      if (asked === version) tell(find("problem"), refused.error);
      return;
    }
    for (const image of images) {
      image.stale = true;
      image.label = null; // it is another class now
    }
    work();
  }

  let pause;
  for (const field of [names, template]) {
    field.addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(reworded, 350);
    });
  }
  find("own").addEventListener("click", () => {
    names.value = own.names;
    template.value = own.template;
    names.focus();
    reworded();
  });

  // The images

  const encoded = (file) =>
    new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });

  async function take(files) {
    const refused = [];
    for (const file of files) {
      if (file.size > most.bytes) refused.push(`${file.name}: more than ${most.bytes / 1e6} MB; give a smaller file`);
      else if (file.size === 0) refused.push(`${file.name}: the file is empty`);
      else {
        try {
          add(file.name, await encoded(file));
        } catch {
          refused.push(`${file.name}: cannot be read`);
        }
      }
    }
    tell(find("refused"), refused.join("\n"));
    const first = images[0]?.card; // on a phone it may be below the window
    if (first?.getBoundingClientRect().top > 0.6 * innerHeight) first.scrollIntoView();
    work();
  }

  function add(name, data) {
    const card = find("card").content.firstElementChild.cloneNode(true);
    const image = { name, data, card, label: null, stale: true };
    card.querySelector("h3").textContent = name;
    card.querySelector(".remove").setAttribute("aria-label", `Remove ${name}`);
    card.querySelector(".remove").addEventListener("click", () => remove(image));
    card.classList.add("waiting");
    images.unshift(image);
    find("answers").prepend(card);
    while (images.length > most.images) remove(images[images.length - 1]);
    find("empty").hidden = true;
  }

  function remove(image) {
    images.splice(images.indexOf(image), 1);
    image.card.remove();
    find("empty").hidden = images.length > 0;
  }

  async function work() {
    if (works) return;
    works = true;
    for (let image; (image = images.find((one) => one.stale)); ) {
      image.stale = false;
      image.card.classList.add("waiting");
      const problem = image.card.querySelector(".problem"), asked = version;
      try {
        const answer = await ask("answer", { ...words(), name: image.name, image: image.data, label: image.label });
        if (asked === version) show(image, answer);
        tell(problem, null);
      } catch (refused) {
        if (refused.of !== "words") tell(problem, refused.error); // those stand beside the words
      }
      if (!image.stale) image.card.classList.remove("waiting");
    }
    works = false;
  }

  function show(image, { picture, models }) {
    image.card.querySelector(".seen img").src = picture;
    for (const [model, found] of Object.entries(models)) {
      const place = image.card.querySelector(`[data-model="${model}"] .filled`);
      const pressed = place.contains(document.activeElement) ? document.activeElement.dataset.label : null;
      if (found.note) {
        const note = document.createElement("p");
        note.className = "note";
        note.textContent = found.note;
        place.replaceChildren(note);
        continue;
      }
      const parts = find("prediction").content.cloneNode(true);
      const shown = parts.querySelector("img");
      shown.src = found.picture;
      shown.alt = `what speaks for ${found.looks_for}, ${model}`;
      parts.querySelector("figcaption").textContent = `what speaks for “${found.looks_for}”`;
      for (const one of found.classes) parts.querySelector("ol").append(row(image, one, one.label === found.label));
      place.replaceChildren(parts);
      if (pressed !== null) place.querySelector(`[data-label="${pressed}"]`)?.focus();
    }
  }

  function row(image, { label, name, probability }, chosen) {
    const item = find("row").content.firstElementChild.cloneNode(true), button = item.firstElementChild;
    item.querySelector(".name").textContent = button.title = name;
    item.querySelector(".share").textContent = `${(100 * probability).toFixed(1)} %`;
    item.querySelector(".bar i").style.width = `${100 * probability}%`;
    button.dataset.label = label;
    button.setAttribute("aria-pressed", chosen);
    button.addEventListener("click", () => {
      image.label = label;
      image.stale = true;
      work();
    });
    return item;
  }

  find("files").addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = ""; // so that the same file can be given again
  });
  for (const button of document.querySelectorAll(".examples button")) {
    button.addEventListener("click", async () => {
      const picture = await fetch(button.firstElementChild.src);
      take([new File([await picture.blob()], button.dataset.name)]);
    });
  }
  const holds = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    document.body.classList.remove("over");
    take([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take([...event.clipboardData.files]);
  });
  addEventListener("pageshow", reworded); // a browser may have kept what was in the boxes
})();
