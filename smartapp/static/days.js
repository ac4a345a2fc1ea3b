// A day of a strip, or all of them, opens in place: what its link leads to is fetched and put under the strip.
// What is open stands in the address's fragment, so that Back closes it and coming back opens it again. Whatever
// goes wrong, the link is followed, as it is without scripts.
var wanted;
function nameOf(link) {
  return link.matches(".cell") ? link.pathname.split("/").pop() : link.hash.slice(1);
}
async function openDay(link) {
  wanted = link;
  var name = nameOf(link);
  if (!document.getElementById(name)) {
    try {
      var answer = await fetch(link.href);
      var found = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(name);
      if (wanted !== link) return;
      link.closest(".block").querySelector(".days").replaceWith(under(found));
    } catch (_) {
      location.assign(link.href);
      return;
    }
  }
  if (location.hash === "#" + name) location.replace("#" + name); else location.hash = name;
}
function under(found) {
  if (found.matches(".days")) return found;
  var days = document.createElement("div");
  days.className = "days";
  days.append(found);
  return days;
}
function daysLinks() {
  return [...document.querySelectorAll(".block a.cell, .block a.all-days")];
}
function openNamed() {
  var name = location.hash.slice(1);
  var link = name && !document.getElementById(name) && daysLinks().find(function (one) { return nameOf(one) === name; });
  if (link) openDay(link);
}
addEventListener("click", function (event) {
  var link = event.target.closest(".block a.cell, .block a.all-days");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  openDay(link);
});
addEventListener("hashchange", openNamed);
openNamed();
