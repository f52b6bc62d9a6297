-- A database as revision 0001 left it. Never change it: it stands for what users have.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE idempotency_keys (
	caller TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY (caller, "key"), 
	CONSTRAINT fk_idempotency_keys_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "idempotency_keys" VALUES('anonymous','k1','f1','run_ended');
CREATE TABLE patches (
	run_id TEXT NOT NULL, 
	diff BLOB NOT NULL, 
	CONSTRAINT pk_patches PRIMARY KEY (run_id), 
	CONSTRAINT fk_patches_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "patches" VALUES('run_ended',X'6469666600FF');
CREATE TABLE run_events (
	run_id TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	payload TEXT NOT NULL, 
	last BOOLEAN NOT NULL, 
	CONSTRAINT pk_run_events PRIMARY KEY (run_id, seq), 
	CONSTRAINT fk_run_events_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "run_events" VALUES('run_ended',1,'{"type":"info","message":"Run created","step":"init","progress":0,"timestamp":1704067205000,"run_id":"run_ended","seq":1,"event":"run.created","data":{}}',0);
INSERT INTO "run_events" VALUES('run_ended',2,'{"type":"summary","message":"Processing completed","step":"complete","progress":100,"timestamp":1704067205000,"run_id":"run_ended","seq":2,"event":"run.finished","data":{},"summary":{"outcome":"changed","verdict":"verified","files_modified":3}}',1);
INSERT INTO "run_events" VALUES('run_queued',1,'{"type":"info","message":"Run created","step":"init","progress":0,"timestamp":1704067205000,"run_id":"run_queued","seq":1,"event":"run.created","data":{}}',0);
CREATE TABLE runs (
	id TEXT NOT NULL, 
	created_at_ms INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	repository TEXT NOT NULL, 
	request TEXT NOT NULL, 
	state TEXT NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('run_ended',1704067205000,'finished','b','{"repo_url":"https://example.org/a/b","repository":"b","prompt":"Do it","ref":null,"model":null,"agent":"recipes","sandbox":"local","checks":["make"],"limits":{"usd":5.0,"tokens":2000000,"turns":80,"minutes":60.0},"clone_depth":1,"metadata":{"ticket":"A-1"},"caller":"anonymous"}','{"step":"complete","progress":100,"last_seq":2,"started_at_ms":null,"finished_at_ms":1704067205000,"cancel_requested":false,"sandbox_id":null,"outcome":"changed","verdict":"verified","files_modified":3,"usage":{"turns":0,"input_tokens":0,"output_tokens":0,"cost_usd":0.0},"error":null}');
INSERT INTO "runs" VALUES('run_queued',1704067206000,'queued','b','{"repo_url":"https://example.org/a/b","repository":"b","prompt":"Do it","ref":null,"model":null,"agent":"recipes","sandbox":"local","checks":null,"limits":{"usd":5.0,"tokens":2000000,"turns":80,"minutes":60.0},"clone_depth":1,"metadata":{},"caller":"anonymous"}','{"step":"init","progress":0,"last_seq":1,"started_at_ms":null,"finished_at_ms":null,"cancel_requested":false,"sandbox_id":null,"outcome":null,"verdict":null,"files_modified":0,"usage":{"turns":0,"input_tokens":0,"output_tokens":0,"cost_usd":0.0},"error":null}');
CREATE INDEX ix_runs_created_at_ms_id ON runs (created_at_ms, id);
CREATE INDEX ix_runs_status_created_at_ms_id ON runs (status, created_at_ms, id);
CREATE INDEX ix_runs_repository_created_at_ms_id ON runs (repository, created_at_ms, id);
CREATE INDEX ix_idempotency_keys_run_id ON idempotency_keys (run_id);
COMMIT;
