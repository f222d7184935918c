-- Everything the daemon keeps. JSON columns hold domain objects whole; columns of their own are what is searched by.
CREATE TABLE containers (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  phase TEXT NOT NULL,
  created INTEGER NOT NULL,            -- wall ns
  image_id TEXT NOT NULL,
  definition TEXT NOT NULL,            -- JSON: config, hostConfig, path, args, mounts, …
  network TEXT NOT NULL,               -- JSON: endpoints, ports, netns
  state TEXT NOT NULL,                 -- JSON: RunState, a cache of the journal …
  cursor INTEGER NOT NULL DEFAULT 0    -- … up to this record
) STRICT;
CREATE INDEX containers_image ON containers (image_id);

CREATE TABLE execs (
  id TEXT PRIMARY KEY,
  container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
  created INTEGER NOT NULL,
  definition TEXT NOT NULL,
  state TEXT NOT NULL
) STRICT;
CREATE INDEX execs_container ON execs (container_id);

CREATE TABLE events (
  row INTEGER PRIMARY KEY AUTOINCREMENT,
  time INTEGER NOT NULL,               -- wall ns, of what happened, not of its recording
  type TEXT NOT NULL,
  action TEXT NOT NULL,
  actor TEXT NOT NULL,
  attributes TEXT NOT NULL,
  -- The journal record it was made from: exactly once, whatever is replayed.
  origin TEXT,
  seq INTEGER,
  UNIQUE (origin, seq, action)
) STRICT;
CREATE INDEX events_time ON events (time);

CREATE TABLE images (
  id TEXT PRIMARY KEY,                 -- sha256:… of the config
  config BLOB NOT NULL,                -- the config's bytes, as hashed
  parent TEXT NOT NULL DEFAULT '',
  created INTEGER NOT NULL,            -- wall ns, when it came here
  tagged INTEGER NOT NULL DEFAULT 0,   -- wall ns, Metadata.LastTagTime; 0 = never
  size INTEGER NOT NULL,
  chains TEXT NOT NULL                 -- JSON array of chain IDs, lowest first
) STRICT;

CREATE TABLE image_names (
  name TEXT PRIMARY KEY,               -- canonical: docker.io/library/busybox:latest or …@sha256:…
  image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX image_names_image ON image_names (image_id);

CREATE TABLE layers (
  chain_id TEXT PRIMARY KEY,
  diff_id TEXT NOT NULL,
  parent TEXT NOT NULL DEFAULT '',
  directory TEXT NOT NULL UNIQUE,      -- short name under images/layers
  phase TEXT NOT NULL,                 -- unpacking | ready | removing
  size INTEGER NOT NULL DEFAULT 0,     -- bytes of its files
  archive_size INTEGER NOT NULL DEFAULT 0 -- bytes of the archive it came as, not compressed
) STRICT;

-- Layers as registries have them, so that a push need not send what is there.
CREATE TABLE blobs (
  diff_id TEXT NOT NULL,
  digest TEXT NOT NULL,
  media_type TEXT NOT NULL,
  size INTEGER NOT NULL,
  repository TEXT NOT NULL,            -- canonical: docker.io/library/busybox
  PRIMARY KEY (diff_id, digest, repository)
) STRICT;

-- Manifests that images were pulled by, so that a push can give them the same digest again.
CREATE TABLE manifests (
  digest TEXT NOT NULL,
  image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
  media_type TEXT NOT NULL,
  bytes BLOB NOT NULL,
  PRIMARY KEY (digest, image_id)
) STRICT;
CREATE INDEX manifests_image ON manifests (image_id);

CREATE TABLE networks (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  phase TEXT NOT NULL,
  created INTEGER NOT NULL,
  definition TEXT NOT NULL
) STRICT;

-- Addresses in use. Given back only with the container's last run on that network proved dead.
CREATE TABLE addresses (
  network_id TEXT NOT NULL REFERENCES networks (id),
  address TEXT NOT NULL,
  container_id TEXT NOT NULL,
  PRIMARY KEY (network_id, address)
) STRICT;
CREATE INDEX addresses_container ON addresses (container_id);

-- What a network driver was set up with: its teardown needs the identical text.
CREATE TABLE attachments (
  container_id TEXT PRIMARY KEY,
  netns TEXT NOT NULL,
  phase TEXT NOT NULL,                 -- setting-up | up | tearing-down
  setup TEXT NOT NULL
) STRICT;

CREATE TABLE volumes (
  name TEXT PRIMARY KEY,
  phase TEXT NOT NULL,
  created INTEGER NOT NULL,
  definition TEXT NOT NULL
) STRICT;
