// A SMART app made with HL7's JavaScript client, as its documentation shows: launch, come back, read.
// usage: node fhirclient_app.mjs PORT CLIENT_ID SCOPE
import http from "node:http";
import smart from "fhirclient";

const [port, clientId, scope] = process.argv.slice(2);
const origin = `http://127.0.0.1:${port}`;
const kept = new Map();

// fhirclient keeps its state in a storage of three functions; one browser is enough here.
const storage = {
  get: async (key) => kept.get(key),
  set: async (key, value) => { kept.set(key, value); return value; },
  unset: async (key) => kept.delete(key),
};

const server = http.createServer(async (request, response) => {
  const url = new URL(request.url, origin);
  request.protocol = "http";
  request.query = Object.fromEntries(url.searchParams);
  request.headers.host = `127.0.0.1:${port}`;
  response.redirect = (location) => { response.writeHead(302, { Location: location }); response.end(); };
  try {
    if (url.pathname === "/launch") {
      await smart(request, response, storage).authorize({ clientId, scope, redirectUri: `${origin}/app` });
      if (!response.writableEnded) response.end();
    } else if (url.pathname === "/app") {
      const client = await smart(request, response, storage).ready();
      const patient = await client.patient.read();
      const bundle = await client.request(`Observation?patient=${client.patient.id}&_count=5`);
      const token = client.state.tokenResponse;
      answer(response, 200, {
        patient: patient.id,
        observations: bundle.entry.length,
        user: client.user.fhirUser,
        scope: token.scope,
        refreshed: await refreshed(client),
      });
    } else {
      answer(response, 404, {});
    }
  } catch (error) {
    answer(response, 500, { error: String(error) });
  }
});

async function refreshed(client) {
  // A public client names itself on a refresh too (RFC 6749, section 6); this client does so when told.
  client.environment.options.refreshTokenWithClientId = true;
  const before = client.state.tokenResponse.access_token;
  await client.refresh();
  return client.state.tokenResponse.access_token !== before;
}

function answer(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
