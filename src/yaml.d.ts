/** YAML files are bundled as the document they hold. */
declare module '*.yaml' {
  const document: unknown;
  export default document;
}
