// A certified OpenID provider made into a SMART authorization server: `launch`, `aud` and `patient` are added.
// usage: node oidc_provider.mjs PORT CLIENTS.json
// It also serves a FHIR base with just enough to launch: smart-configuration and one Patient, behind the token.
import fs from "node:fs";
import Provider from "oidc-provider";

const [port, file] = process.argv.slice(2);
const origin = `http://127.0.0.1:${port}`;
const fhir = `${origin}/fhir`;
const clients = JSON.parse(fs.readFileSync(file, "utf8"));
const launches = new Map();

const provider = new Provider(origin, {
  clients,
  scopes: [
    "openid", "fhirUser", "launch", "online_access", "offline_access",
    ...clients.flatMap((client) => client.scope.split(" ")),
  ],
  claims: { openid: ["sub"], fhirUser: ["fhirUser"] },
  conformIdTokenClaims: false,
  extraParams: ["launch", "aud"],
  pkce: { methods: ["S256"], required: () => true },
  clientAuthMethods: ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
  enabledJWA: { clientAuthSigningAlgValues: ["RS384", "ES384"] },
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
  findAccount: async (ctx, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, fhirUser: `${fhir}/Practitioner/${id}`, name: "Synthetic Physician" }),
  }),
});

provider.use(async (ctx, next) => {
  const path = ctx.path;
  if (path === "/fhir/.well-known/smart-configuration") {
    ctx.body = {
      issuer: origin,
      jwks_uri: `${origin}/jwks`,
      authorization_endpoint: `${origin}/auth`,
      token_endpoint: `${origin}/token`,
      revocation_endpoint: `${origin}/token/revocation`,
      grant_types_supported: ["authorization_code", "refresh_token"],
      code_challenge_methods_supported: ["S256"],
      capabilities: ["launch-ehr", "client-public", "client-confidential-asymmetric", "permission-v2"],
    };
    return;
  }
  if (path === "/fhir/Patient/syn-1") {
    const [, token] = (ctx.get("authorization") || "").match(/^Bearer (.+)$/) ?? [];
    const found = token && (await provider.AccessToken.find(token));
    ctx.status = found ? 200 : 401;
    ctx.body = found ? { resourceType: "Patient", id: "syn-1" } : { resourceType: "OperationOutcome" };
    return;
  }
  if (path === "/auth" && ctx.query.state && ctx.query.aud !== fhir) {
    ctx.status = 400;
    ctx.body = { error: "invalid_request", error_description: "aud is not this FHIR base" };
    return;
  }
  if (path === "/auth" && ctx.query.launch) launches.set(ctx.query.client_id, ctx.query.launch);
  await next();
  // A SMART server tells the chart that was open: the launch parameter names it.
  if (path === "/token" && ctx.body?.access_token) {
    const client = ctx.oidc?.client?.clientId;
    if (launches.get(client) === "launch-of-syn-1") ctx.body.patient = "syn-1";
    ctx.body.need_patient_banner = true;
  }
});

provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
