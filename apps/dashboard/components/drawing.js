// A drawing that the server made, in the colours of the page.

export default function ({ data, parentElement }) {
  if (!data) return;
  const parsed = new DOMParser().parseFromString(data.svg, "image/svg+xml");
  const drawing = document.importNode(parsed.documentElement, true);
  let place = parentElement.querySelector(".drawing");
  if (!place) {
    place = document.createElement("div");
    place.className = "drawing";
    parentElement.appendChild(place);
  }
  place.replaceChildren(drawing);
}
