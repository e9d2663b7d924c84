CREATE TABLE files (
  scope TEXT NOT NULL, lfn TEXT NOT NULL, guid TEXT NOT NULL, size INTEGER NOT NULL, checksum TEXT NOT NULL,
  PRIMARY KEY (scope, lfn)
);
CREATE TABLE replicas (  -- the lowest place is the best one
  scope TEXT NOT NULL, lfn TEXT NOT NULL, place INTEGER NOT NULL, url TEXT NOT NULL, rse TEXT NOT NULL,
  PRIMARY KEY (scope, lfn, url)
);
