// What could not be sent to the EHR for a moment is sent again by itself, or by its button without scripts.
const form = document.querySelector("form[data-again]");
setTimeout(() => form.requestSubmit(), Number(form.dataset.again) * 1000);
