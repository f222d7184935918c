/** Docker's short form of the id of a container or image: 12 hex digits, without `sha256:`. */
export const shortId = (id: string): string => id.slice(id.indexOf(':') + 1).slice(0, 12);
