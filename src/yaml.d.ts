/** openapi.yaml is bundled as an object. */
declare module '*.yaml' {
  const document: Record<string, unknown>;
  export default document;
}
