/** The shapes of the HTTP API. Written by "npm run types"; do not edit. */

export interface paths {
    "/api/v1/alert-channels": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Channels
         * @description List your channels by name.
         */
        get: operations["monitoring_api_channels_list_channels"];
        put?: never;
        /**
         * Create Channel
         * @description Make a channel of yours.
         */
        post: operations["monitoring_api_channels_create_channel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alert-channels/{channel_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Channel
         * @description Return one channel.
         */
        get: operations["monitoring_api_channels_get_channel"];
        /**
         * Change Channel
         * @description Change a channel field by field; another kind needs its address.
         */
        put: operations["monitoring_api_channels_change_channel"];
        post?: never;
        /**
         * Delete Channel
         * @description Delete a channel; rules that name it tell the others that they name.
         */
        delete: operations["monitoring_api_channels_delete_channel"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alert-channels/{channel_id}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Test Channel
         * @description Send a test message and say what became of it, within about 20 seconds; five a minute are allowed.
         */
        post: operations["monitoring_api_channels_test_channel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alert-rules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Rules
         * @description List your rules by name.
         */
        get: operations["monitoring_api_rules_list_rules"];
        put?: never;
        /**
         * Create Rule
         * @description Make a rule of yours; what does not fit is said field by field.
         */
        post: operations["monitoring_api_rules_create_rule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alert-rules/{rule_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Rule
         * @description Return one rule.
         */
        get: operations["monitoring_api_rules_get_rule"];
        /**
         * Change Rule
         * @description Change a rule field by field; what it raised is resolved when it looks for something else now.
         */
        put: operations["monitoring_api_rules_change_rule"];
        post?: never;
        /**
         * Delete Rule
         * @description Delete a rule; what it raised is resolved and stays in the list of alerts.
         */
        delete: operations["monitoring_api_rules_delete_rule"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alert-rules/{rule_id}/silence": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Silence Rule
         * @description Let nobody be told of a rule for some hours, or with 0 let them be told again.
         */
        post: operations["monitoring_api_rules_silence_rule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alert-rules/{rule_id}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Test Rule
         * @description Say what a rule would have done in the last days, also with another threshold; nothing is changed or sent.
         */
        get: operations["monitoring_api_rules_test_rule"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alert-rules/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Test New Rule
         * @description Say what a rule that is not stored would have done in the last days; its name may be that of another one.
         */
        post: operations["monitoring_api_rules_test_new_rule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alerts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Alerts
         * @description List the alerts of your rules, newest first.
         */
        get: operations["monitoring_api_alerts_list_alerts"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alerts/{alert_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Alert
         * @description Return one alert and what was said about it.
         */
        get: operations["monitoring_api_alerts_get_alert"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/alerts/{alert_id}/acknowledge": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Acknowledge
         * @description Say that you take care of an alert; 409 when it is over or somebody does already.
         */
        post: operations["monitoring_api_alerts_acknowledge"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/approvals": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Approvals
         * @description List the approvals that wait for you: the 20 oldest of your executions, and 20 of others.
         *
         *     A token gets their links with the scope ``executions:run``.
         */
        get: operations["executions_api_letters_list_approvals"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Audit
         * @description List what was done to things of yours, whoever did it, newest first.
         */
        get: operations["workflows_api_history_list_audit"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/credentials": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Credentials
         * @description List your own credentials, those that your workflows can use, by name; at most 1,000.
         */
        get: operations["workflows_api_credentials_list_credentials"];
        put?: never;
        /**
         * Create Credential
         * @description Store a credential; 409 if you have one of this name.
         */
        post: operations["workflows_api_credentials_create_credential"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/credentials/{credential_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Credential
         * @description Return a credential of yours, without its secrets.
         */
        get: operations["workflows_api_credentials_get_credential"];
        /**
         * Change Credential
         * @description Change a credential field by field.
         */
        put: operations["workflows_api_credentials_change_credential"];
        post?: never;
        /**
         * Delete Credential
         * @description Delete a credential; 409 while workflows name it, unless ``force`` says to do it all the same.
         */
        delete: operations["workflows_api_credentials_delete_credential"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/credentials/kinds": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Kinds
         * @description List the kinds of credentials with their fields.
         */
        get: operations["workflows_api_credentials_list_kinds"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/credits": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Credits
         * @description Return your credits; null for people who are not metered.
         */
        get: operations["workflows_api_history_get_credits"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/credits/entries": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Entries
         * @description List the transfers of your credits, newest first.
         */
        get: operations["workflows_api_history_list_entries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/credits/report": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Report Credits
         * @description Add up what you spent by day, workflow or execution.
         */
        get: operations["workflows_api_history_report_credits"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/dead-letters": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Letters
         * @description List what was given up in your executions and workflows.
         */
        get: operations["executions_api_letters_list_letters"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/dead-letters/{letter_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Letter
         * @description Return one dead letter.
         */
        get: operations["executions_api_letters_get_letter"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/dead-letters/{letter_id}/discard": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Discard
         * @description Mark a letter as not worth doing.
         */
        post: operations["executions_api_letters_discard"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/dead-letters/{letter_id}/replay": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Replay
         * @description Do again what a letter gave up.
         */
        post: operations["executions_api_letters_replay"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Executions
         * @description List executions, newest first. The number of queries does not depend on the page.
         */
        get: operations["executions_api_executions_list_executions"];
        put?: never;
        /**
         * Start
         * @description Start a workflow.
         *
         *     The same ``Idempotency-Key`` answers the execution that it started first, for as long as that one exists; with
         *     another workflow, version or input it is refused (422). Keys are of one user each. The execution belongs to the owner
         *     of the workflow and uses their credentials and credits, whoever starts it.
         */
        post: operations["executions_api_executions_start"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Execution
         * @description Return one execution with its phases, node runs and definition.
         */
        get: operations["executions_api_executions_get_execution"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/approvals/{node_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Decide
         * @description Approve or reject what the node ``node_id`` asks: its owner and those it names may. The first decision counts.
         */
        post: operations["executions_api_executions_decide"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/artifacts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Artifacts
         * @description List the files that nodes saved: screenshots, pages, network traffic.
         */
        get: operations["executions_api_inside_list_artifacts"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Cancel
         * @description Ask an execution to stop; its running nodes are cancelled within seconds.
         */
        post: operations["executions_api_executions_cancel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/celery": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Celery
         * @description Return the tasks of each phase: headers, callback, claims, deliveries, workers.
         */
        get: operations["executions_api_inside_get_celery"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/keep": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Keep
         * @description Keep the recording of an execution that ended without one, while its events are there; may be called twice.
         */
        post: operations["executions_api_executions_keep"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Logs
         * @description Return events after ``after``, as the socket sends them; also long after the end of the execution.
         *
         *     A page may end before ``limit`` where values are large; ``next_after`` says where to go on.
         */
        get: operations["executions_api_executions_logs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/nodes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Nodes
         * @description List the runs of nodes; those that have not begun have none.
         */
        get: operations["executions_api_runs_list_nodes"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/nodes/{node_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Node
         * @description Return the run of a node with its inputs and outputs.
         */
        get: operations["executions_api_runs_get_node"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/outputs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Download Outputs
         * @description Download the outputs of all nodes that completed as a JSON file, also of an execution that failed or goes on.
         *
         *     Outputs that were removed with their recording are not in it. Turns of loops and subflows are executions of their own.
         */
        get: operations["executions_api_runs_download_outputs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Pause
         * @description Start no further node until it is resumed; nodes that run come to their end.
         */
        post: operations["executions_api_executions_pause"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/phases": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Phases
         * @description List the phases that were opened, in order.
         */
        get: operations["executions_api_runs_list_phases"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Resume
         * @description Go on with a paused execution.
         */
        post: operations["executions_api_executions_resume"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Retry
         * @description Start a new execution with the version and the input of one that has ended; see ``from_failed``.
         *
         *     The same ``Idempotency-Key`` answers the execution that it began first, as that of a start does.
         */
        post: operations["executions_api_executions_retry"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/start-streaming": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Start Streaming
         * @description Say at which socket to watch, and push the newest event once more.
         *
         *     Every execution streams by itself from its first event on, so nothing has to be started. Sockets that
         *     are open and missed something notice it by the number of the pushed event and read what they lack.
         */
        post: operations["executions_api_executions_start_streaming"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/state": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get State
         * @description Return the state after event number ``seq``, also while the execution runs; long values are cut.
         */
        get: operations["executions_api_inside_get_state"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/executions/{execution_id}/timeline": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Timeline
         * @description Return when each node was queued, began and ended, and the critical path.
         */
        get: operations["executions_api_inside_get_timeline"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/node-types": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Node Types
         * @description List every node type with its inputs and outputs, in palette order.
         */
        get: operations["workflows_api_node_types_list_node_types"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recordings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Recordings
         * @description List the recordings that the user may see, newest first.
         */
        get: operations["recordings_api_list_recordings"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recordings/{recording_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Recording
         * @description Return one recording, by its own id or that of its execution.
         */
        get: operations["recordings_api_get_recording"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recordings/{recording_id}/compare/{other_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Compare
         * @description Compare two recordings: metadata, nodes, paths, inputs, outputs, errors, timing.
         */
        get: operations["recordings_api_compare"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recordings/{recording_id}/download": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Download
         * @description Download a copy of a recording.
         */
        get: operations["recordings_api_download"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recordings/{recording_id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Events
         * @description List events in order, ``limit`` of them after event number ``after``, or fewer: a page ends after 16 MiB.
         */
        get: operations["recordings_api_list_events"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recordings/{recording_id}/state": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * State At
         * @description Return the state after an event, which is named by its number from 1 or by its id.
         */
        get: operations["recordings_api_state_at"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recordings/{recording_id}/tags": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Change Tags
         * @description Add and remove tags.
         *
         *     A recording has at most 50 tags; what would make more is refused (409).
         */
        post: operations["recordings_api_change_tags"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recordings/artifacts/{sha256}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Artifact
         * @description Download a file of an execution. It is never shown in the browser: it may be a hostile page.
         */
        get: operations["recordings_api_artifact"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/schedules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Schedules
         * @description List schedules, the next one first, and those last that start nothing.
         */
        get: operations["workflows_api_schedules_list_schedules"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/schedules/preview": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Preview Schedule
         * @description Say a schedule in words and when it fires next; what is wrong with it is in ``error``.
         */
        get: operations["workflows_api_schedules_preview_schedule"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Tokens
         * @description List your own tokens, newest first: the latest 1,000.
         */
        get: operations["workflows_api_account_list_tokens"];
        put?: never;
        /**
         * Create Token
         * @description Make a token. Its text is in this answer and nowhere else.
         */
        post: operations["workflows_api_account_create_token"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/tokens/{token_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Revoke Token
         * @description End a token now; may be called twice.
         */
        delete: operations["workflows_api_account_revoke_token"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/users/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Me
         * @description Say whom the request acts for, what they may do and how much.
         */
        get: operations["workflows_api_account_me"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Workflows
         * @description List workflows, by name unless ``sort`` says otherwise.
         */
        get: operations["workflows_api_workflows_list_workflows"];
        put?: never;
        /**
         * Create Workflow
         * @description Create a workflow; it is a draft until it is activated.
         */
        post: operations["workflows_api_workflows_create_workflow"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Workflow
         * @description Return a workflow with the definition of its newest version; 304 when it is as If-None-Match says.
         *
         *     Its ETag begins with the number of the newest version: as If-Match of a PUT it says what the edit began from.
         */
        get: operations["workflows_api_workflows_get_workflow"];
        /**
         * Save Workflow
         * @description Save a new version; errors in it are reported and kept, what is active goes on running.
         *
         *     What the edit began from is said by ``base_version`` or by If-Match, which takes the ETag of GET. When a newer
         *     version exists, 409 says who saved it and what it changed. If-Match also sees another name, description or settings;
         *     with ``base_version`` alone, those given are not replaced (409) when they were changed since that version was made.
         */
        put: operations["workflows_api_workflows_save_workflow"];
        post?: never;
        /**
         * Delete Workflow
         * @description Delete a workflow that never ran; archive one that has history.
         */
        delete: operations["workflows_api_workflows_delete_workflow"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/activate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Activate
         * @description Make the newest version (or another) the one that runs, and take starts; errors in it are answered with 422.
         */
        post: operations["workflows_api_workflows_activate"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/archive": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Archive
         * @description Put a workflow away; its history stays readable.
         */
        post: operations["workflows_api_workflows_archive"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/clone": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Clone
         * @description Make a draft of your own that does the same; its schedule is switched off.
         */
        post: operations["workflows_api_versions_clone"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/diff": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Diff
         * @description Say what differs between two versions; unless told otherwise, what publishing would change.
         */
        get: operations["workflows_api_versions_diff"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/export": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Export
         * @description Return a workflow as a file: no secrets, but a list ``requires`` of the credentials that it names.
         */
        get: operations["workflows_api_versions_export"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Pause
         * @description Stop scheduled and triggered starts; executions that run go on.
         */
        post: operations["workflows_api_workflows_pause"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/publish": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Publish
         * @description Make the newest version (or another) the one that runs; what is paused stays so, a draft takes no starts yet.
         */
        post: operations["workflows_api_workflows_publish"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/restore": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Restore
         * @description Save what an older version holds as the newest one; what is active goes on running.
         */
        post: operations["workflows_api_versions_restore"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Resume
         * @description Take starts again after a pause.
         */
        post: operations["workflows_api_workflows_resume"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/schedule": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Schedule
         * @description Return the schedule of a workflow; 404 when it has none.
         */
        get: operations["workflows_api_schedules_get_schedule"];
        /**
         * Set Schedule
         * @description Set when a workflow starts by itself; how often it may is asked when it is enabled.
         */
        put: operations["workflows_api_schedules_set_schedule"];
        post?: never;
        /**
         * Clear Schedule
         * @description Take the schedule of a workflow away.
         */
        delete: operations["workflows_api_schedules_clear_schedule"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/unarchive": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Unarchive
         * @description Bring an archived workflow back as a draft.
         */
        post: operations["workflows_api_workflows_unarchive"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/versions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Versions
         * @description List the versions of a workflow, newest first.
         */
        get: operations["workflows_api_versions_list_versions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/versions/{number}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Version
         * @description Return a version with its definition; 304 when it is as If-None-Match says.
         */
        get: operations["workflows_api_versions_get_version"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/webhooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Webhooks
         * @description List the webhooks of a workflow, by name.
         */
        get: operations["workflows_api_webhooks_list_webhooks"];
        put?: never;
        /**
         * Create Webhook
         * @description Make a webhook. Its secret is in this answer and nowhere else.
         */
        post: operations["workflows_api_webhooks_create_webhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/webhooks/{webhook_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Change Webhook
         * @description Rename a webhook, change its methods, or switch it on or off.
         */
        put: operations["workflows_api_webhooks_change_webhook"];
        post?: never;
        /**
         * Delete Webhook
         * @description Delete a webhook.
         */
        delete: operations["workflows_api_webhooks_delete_webhook"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/{workflow_id}/webhooks/{webhook_id}/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Rotate Webhook
         * @description Give a webhook a new secret, which is in this answer only; the present one stays good for a while.
         */
        post: operations["workflows_api_webhooks_rotate_webhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/import": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Import Workflow
         * @description Store a file as a workflow of yours. All or nothing is stored; errors in it are answered with 422.
         */
        post: operations["workflows_api_versions_import_workflow"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/workflows/validate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Validate Definition
         * @description Check a definition without saving it.
         */
        post: operations["workflows_api_workflows_validate_definition"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description An alert with its newest messages, 100 at most. */
        AlertDetail: {
            acknowledged_at: string | null;
            acknowledged_by: string | null;
            /** Format: uuid */
            id: string;
            key: string;
            /** @enum {string} */
            kind: "failure_rate" | "queue_backlog" | "resource_exhaustion" | "cost" | "schedule_lag" | "dead_letters" | "worker_lost";
            /** Format: date-time */
            last_seen_at: string;
            message: string;
            messages: components["schemas"]["MessageOut"][];
            /** Format: date-time */
            opened_at: string;
            reason: string;
            resolved_at: string | null;
            rule_id: string | null;
            rule_name: string;
            /** @enum {string} */
            severity: "info" | "warning" | "critical";
            /** @enum {string} */
            status: "firing" | "resolved";
            threshold: number;
            told_at: string | null;
            value: number;
            workflow_id: string | null;
            workflow_name: string;
        };
        /** @description Which alerts. ``new`` are those that fire and that nobody takes care of. */
        AlertFilters: {
            kind?: ("failure_rate" | "queue_backlog" | "resource_exhaustion" | "cost" | "schedule_lag" | "dead_letters" | "worker_lost") | null;
            /** @default 50 */
            limit: number;
            /** @default 0 */
            offset: number;
            rule_id?: string | null;
            severity?: ("info" | "warning" | "critical") | null;
            state?: ("firing" | "new" | "acknowledged" | "resolved") | null;
            workflow_id?: string | null;
        };
        /**
         * @description Something that a rule found to be too much; ``key`` names which, where a rule watches several.
         *
         *     ``value`` is the newest one, in the unit of the kind. What it says of its rule and workflow stays when they go.
         *     ``reason`` says why it was resolved when it was not because the value fell.
         */
        AlertOut: {
            acknowledged_at: string | null;
            acknowledged_by: string | null;
            /** Format: uuid */
            id: string;
            key: string;
            /** @enum {string} */
            kind: "failure_rate" | "queue_backlog" | "resource_exhaustion" | "cost" | "schedule_lag" | "dead_letters" | "worker_lost";
            /** Format: date-time */
            last_seen_at: string;
            message: string;
            /** Format: date-time */
            opened_at: string;
            reason: string;
            resolved_at: string | null;
            rule_id: string | null;
            rule_name: string;
            /** @enum {string} */
            severity: "info" | "warning" | "critical";
            /** @enum {string} */
            status: "firing" | "resolved";
            threshold: number;
            told_at: string | null;
            value: number;
            workflow_id: string | null;
            workflow_name: string;
        };
        /** @description One page of alerts, newest first. */
        AlertPage: {
            count: number;
            items: components["schemas"]["AlertOut"][];
        };
        /** @description A file that a node saved; ``url`` downloads it. The time is Unix seconds. */
        ArtifactOut: {
            content_type: string;
            image: boolean;
            kind: string;
            name: string;
            node_id: string;
            node_name: string;
            seq: number;
            size_bytes: number;
            timestamp: number;
            url: string;
        };
        /** @description One page of files, oldest first; ``count`` is of all pages. */
        ArtifactPage: {
            count: number;
            items: components["schemas"]["ArtifactOut"][];
        };
        /** @description Which entries. */
        AuditFilters: {
            /** @default 9223372036854776000 */
            before: number;
            /** @default  */
            kind: string;
            /** @default 50 */
            limit: number;
            /** @default  */
            object_id: string;
            /** @default  */
            verb: string;
        };
        /** @description Who did what to what, and where they came in. ``detail`` depends on the verb, and never holds a secret. */
        AuditOut: {
            actor: string;
            /** Format: date-time */
            at: string;
            detail: {
                [key: string]: unknown;
            };
            door: string;
            id: number;
            kind: string;
            object_id: string;
            object_name: string;
            verb: string;
        };
        /** @description One page of the audit log, newest first. ``next`` is the ``before`` of the page after it, empty on the last. */
        AuditPage: {
            count: number;
            items: components["schemas"]["AuditOut"][];
            next: number | null;
        };
        /**
         * @description When one node was queued, began and ended, in milliseconds since the execution was queued.
         *
         *     ``queued_ms`` is null when no message was sent for the node; ``critical`` says that it is on the critical path.
         */
        Bar: {
            attempt: number;
            critical: boolean;
            error: string | null;
            finished_ms: number | null;
            name: string;
            node_id: string;
            phase: number;
            queued_ms: number | null;
            started_ms: number | null;
            /** @enum {string} */
            status: "queued" | "running" | "retrying" | "waiting" | "completed" | "failed" | "skipped" | "cancelled";
            type: string;
        };
        /** @description Which bars. */
        BarPage: {
            /** @default 200 */
            limit: number;
            /** @default 0 */
            offset: number;
        };
        /** @description The body of a chord: the task that opens ``phase``. ``done`` says that this phase is closed. */
        CallbackOut: {
            done: boolean;
            phase: number;
            queue: string;
            task: string;
        };
        /** @description A page of phases in order. Times are milliseconds since the execution was queued. */
        CeleryOut: {
            count: number;
            items: components["schemas"]["ChordOut"][];
            start: components["schemas"]["StartMessage"];
        };
        /** @description A node that both versions have, and what differs in it. */
        ChangedNode: {
            changes: components["schemas"]["ChangeOut"][];
            id: string;
            label: string;
            type: string;
        };
        /** @description A value that differs. ``before`` or ``after`` is not there when the value came or went. */
        ChangeOut: {
            after?: unknown;
            before?: unknown;
            /** @enum {string} */
            change: "added" | "removed" | "changed";
            field: string;
            path: (string | number)[];
        };
        /** @description What to change; what is left out stays. An empty ``secret`` takes it away. */
        ChannelChange: {
            address?: string | null;
            enabled?: boolean | null;
            kind?: ("email" | "webhook" | "slack") | null;
            name?: string | null;
            secret?: string | null;
        };
        /** @description A channel. Of the address of a webhook only the beginning is shown, for the rest may be a secret. */
        ChannelOut: {
            address: string;
            /** Format: date-time */
            created_at: string;
            enabled: boolean;
            /** Format: uuid */
            id: string;
            /** @enum {string} */
            kind: "email" | "webhook" | "slack";
            name: string;
        };
        /** @description One page of channels, by name. */
        ChannelPage: {
            count: number;
            items: components["schemas"]["ChannelOut"][];
        };
        /** @description Everything that is wrong with a definition; empty when nothing is. */
        Checked: {
            findings: components["schemas"]["FindingOut"][];
        };
        /**
         * @description What was made of one phase: header tasks of which ``message_count`` were sent; a chord when these are several.
         *
         *     ``sent_again`` are tasks whose message followed later; then ``message_count`` is what was sent before, at least.
         *     ``tasks`` are the first 50; after a worker died or a node was tried again they may be more than headers.
         */
        ChordOut: {
            callback: components["schemas"]["CallbackOut"] | null;
            finished_ms: number | null;
            header_count: number;
            index: number;
            message_count: number;
            node_count: number;
            sent_again: number;
            started_ms: number | null;
            /** @enum {string} */
            status: "running" | "completed" | "failed" | "cancelled";
            task_count: number;
            tasks: components["schemas"]["TaskOut"][];
        };
        /** @description Which phases. */
        ChordPage: {
            /** @default 20 */
            limit: number;
            /** @default 0 */
            offset: number;
        };
        /** @description The name of the copy ("X (copy)" unless given) and the version that it is one of (the newest). */
        CloneBody: {
            name?: string | null;
            version?: number | null;
        };
        /**
         * @description What differs between two recordings; numbers are the first minus the other. Paths end after 1,000 nodes.
         *
         *     ``context_diff`` and ``final_state_diff`` are of what the runs were given and came to, ``state_diff`` of recorded states.
         *     ``left_out`` is how many differences of values are not told: they would be more than 8 MiB, or 1,000 of one node.
         */
        ComparisonOut: {
            context_diff?: unknown;
            error_diff?: unknown;
            event_diff?: unknown;
            final_state_diff?: unknown;
            identical: boolean;
            input_diff?: unknown;
            /** @default 0 */
            left_out: number;
            metadata_diff: {
                [key: string]: unknown;
            };
            node_diff: {
                [key: string]: string[];
            };
            output_diff?: unknown;
            path_diff: {
                [key: string]: unknown;
            };
            state_diff?: unknown;
            status_diff?: unknown;
            timing_diff?: unknown;
            version_diff?: unknown;
        };
        /**
         * @description Why nothing was saved. Of a newer version: its number, who saved it, when, and what it changed since.
         *
         *     ``changes`` has the form of ``GET /workflows/{workflow_id}/diff``.
         */
        Conflict: {
            author?: string | null;
            changes?: {
                [key: string]: unknown;
            } | null;
            detail: string;
            saved_at?: string | null;
            version?: number | null;
        };
        /**
         * @description What to change. Fields that are not given keep what they hold, an empty text takes one away.
         *
         *     What is not given at all stays, too; ``expires_at`` null takes the end away.
         */
        CredentialChange: {
            expires_at?: string | null;
            fields?: {
                [key: string]: string;
            };
            kind?: string | null;
            name?: string | null;
        };
        /**
         * @description A credential without its secrets, of which ``secrets`` are the names.
         *
         *     ``problem`` says why it cannot be used now: it has expired, or its key is gone. Empty when it can.
         */
        CredentialOut: {
            /** Format: date-time */
            created_at: string;
            expired: boolean;
            expires_at: string | null;
            fields: {
                [key: string]: string;
            };
            /** Format: uuid */
            id: string;
            kind: string;
            kind_label: string;
            last_used_at: string | null;
            name: string;
            problem: string;
            secrets: string[];
            /** Format: date-time */
            updated_at: string;
        };
        /** @description Credits: ``available`` to start with, ``reserved`` for what runs, ``spent`` so far. */
        CreditsOut: {
            available: number;
            reserved: number;
            spent: number;
        };
        /** @description A node of the critical path. */
        CriticalNode: {
            duration_ms: number;
            name: string;
            node_id: string;
        };
        /** @description What a person decided about an approval. */
        Decision: {
            approved: boolean;
            /** @default  */
            comment: string;
        };
        /** @description Whether to delete a credential that workflows name. */
        DeleteFilters: {
            /** @default false */
            force: boolean;
        };
        /**
         * @description One execution with its phases, node runs and the definition that it ran. ``node_names`` are by node id.
         *
         *     ``expected_ms`` is by node id, too: how long nodes are likely to run, the p50 of the last executions that completed.
         *
         *     ``recording_note`` says why the recording was kept, or why there is none.
         *
         *     ``loops`` names the loop around each node that is inside of one; ``scope`` is the loop whose body this
         *     execution is one turn of.
         */
        Detail: {
            credits: number;
            definition: {
                [key: string]: unknown;
            };
            duration_ms: number | null;
            error: string | null;
            error_node: string | null;
            error_node_name: string | null;
            expected_ms: {
                [key: string]: number;
            };
            finished_at: string | null;
            held_by: string | null;
            held_reason: string | null;
            /** Format: uuid */
            id: string;
            last_seq: number;
            loops: {
                [key: string]: string;
            };
            node_names: {
                [key: string]: string;
            };
            nodes: components["schemas"]["NodeOut"][];
            parent_id: string | null;
            phases: components["schemas"]["PhaseOut"][];
            progress: components["schemas"]["Progress"];
            queued_at: string;
            recording_id: string | null;
            recording_note: string | null;
            retry_of_id: string | null;
            scope: string | null;
            started_at: string | null;
            /** @enum {string} */
            status: "queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled";
            trigger: string;
            version: number;
            waiting: components["schemas"]["Wait"][];
            /** Format: uuid */
            workflow_id: string;
            workflow_name: string;
        };
        /** @description Two versions, each a number, ``active`` or ``newest``. */
        DiffFilters: {
            /** @default newest */
            new: number | ("active" | "newest");
            /** @default active */
            old: number | ("active" | "newest");
        };
        /**
         * @description What differs between two versions; what looks like a typed-in secret is hidden.
         *
         *     ``fields`` are changes outside the graph, such as the cron text and the settings.
         */
        DiffOut: {
            added: {
                [key: string]: unknown;
            }[];
            changed: components["schemas"]["ChangedNode"][];
            edges_added: {
                [key: string]: unknown;
            }[];
            edges_removed: {
                [key: string]: unknown;
            }[];
            fields: components["schemas"]["ChangeOut"][];
            moved: components["schemas"]["Moved"][];
            new: number;
            old: number;
            removed: {
                [key: string]: unknown;
            }[];
            reordered: boolean;
            same: boolean;
            summary: string;
        };
        /** @description The format of a copy; the first three can be imported again. */
        DownloadFormat: {
            /**
             * @default fbrec
             * @enum {string}
             */
            format: "fbrec" | "json.gz" | "json" | "html" | "svg" | "dot" | "summary";
        };
        /**
         * @description A new version. ``base_version`` is the number that the edit began from, unless the header If-Match says it.
         *
         *     Name, description and settings stay when they are not given; ``settings``, tags among them, replace all there are.
         *     With ``base_version`` alone they are not replaced when they were changed since the newest version was made.
         */
        Edit: {
            base_version?: number | null;
            definition: {
                [key: string]: unknown;
            };
            description?: string | null;
            /** @default  */
            message: string;
            name?: string | null;
            settings?: {
                [key: string]: unknown;
            } | null;
        };
        /** @description Which transfers. */
        EntryFilters: {
            /** @default 9223372036854776000 */
            before: number;
            execution_id?: string | null;
            kind?: ("grant" | "reserve" | "charge" | "refund" | "correction") | null;
            /** @default 50 */
            limit: number;
        };
        /** @description One transfer of credits. ``available_after`` is what was left to start with. */
        EntryOut: {
            actor: string | null;
            amount: number;
            /** Format: date-time */
            at: string;
            available_after: number;
            execution_id: string | null;
            id: number;
            kind: string;
            note: string;
            workflow_id: string | null;
            workflow_name: string | null;
        };
        /** @description One page of the ledger, newest first. ``next`` is the ``before`` of the page after it, empty on the last. */
        EntryPage: {
            count: number;
            items: components["schemas"]["EntryOut"][];
            next: number | null;
        };
        /** @description One event. The time is Unix seconds. */
        EventOut: {
            data: {
                [key: string]: unknown;
            };
            event_id: string;
            event_type: string;
            metadata: {
                [key: string]: unknown;
            };
            node_id: string | null;
            seq: number;
            timestamp: number;
        };
        /** @description Which events to list. */
        EventPage: {
            /** @default 0 */
            after: number;
            /** @default 100 */
            limit: number;
        };
        /** @description A page of events; ``next`` is the ``after`` of the next one, null at the end. */
        EventsOut: {
            count: number;
            items: components["schemas"]["EventOut"][];
            next: number | null;
        };
        /** @description Which version; the newest unless given. */
        ExportFilters: {
            version?: number | null;
        };
        /** @description A field of a kind. A secret one is never answered. ``options`` is empty where any text is taken. */
        FieldOut: {
            default: string;
            help: string;
            label: string;
            max: number;
            name: string;
            options: string[];
            required: boolean;
            secret: boolean;
            type: string;
        };
        /** @description Which files. */
        FilePage: {
            /** @default 50 */
            limit: number;
            /** @default 0 */
            offset: number;
        };
        /**
         * @description One thing that is wrong with a workflow.
         *
         *     ``path`` is the exact place in the JSON of the workflow, ``position`` the offset in the text there, from 0, and
         *     ``line`` its line, from 1.
         */
        FindingOut: {
            code: string;
            edge_id: string | null;
            field: string | null;
            hint: string;
            line: number | null;
            message: string;
            node_id: string | null;
            path: string | null;
            position: number | null;
            /** @enum {string} */
            severity: "error" | "warning";
        };
        /** @description A time for which a rule would have fired; ``ended_at`` is null where it still would. ``worst`` is the highest value. */
        FiringOut: {
            /** Format: date-time */
            began_at: string;
            ended_at: string | null;
            key: string;
            message: string;
            worst: number;
        };
        /**
         * @description A file of an export. ``credentials`` says which of your own stands for each that the file ``requires``.
         *
         *     ``draft`` keeps it from running at once, whatever status it has in the file.
         */
        ImportBody: {
            credentials?: {
                [key: string]: string;
            };
            definition: {
                [key: string]: unknown;
            };
            /** @default false */
            draft: boolean;
            name?: string | null;
        };
        /** @description What came of a file. The same name again makes a new version of that workflow. */
        Imported: {
            findings: components["schemas"]["FindingOut"][];
            /** Format: uuid */
            id: string;
            /** @enum {string} */
            status: "draft" | "active" | "paused" | "archived";
            version: number;
        };
        /**
         * @description An input. ``accepts`` are the output types that may be wired into it, ``kinds`` those of a credential (all if empty).
         *
         *     A wire into one that ``returns`` leads from the body of a loop back to the loop, and is no circle.
         */
        InputOut: {
            accepts: ("STRING" | "NUMBER" | "BOOLEAN" | "SELECT" | "JSON" | "LIST" | "FILE" | "CREDENTIAL" | "BROWSER_INSTANCE" | "CONDITIONAL" | "ANY")[];
            default: unknown;
            handle: boolean;
            help: string;
            kinds: string[];
            max: number | null;
            min: number | null;
            name: string;
            options: string[];
            placeholder: string;
            required: boolean;
            returns: boolean;
            slug: string;
            takes_many: boolean;
            /** @enum {string} */
            type: "STRING" | "NUMBER" | "BOOLEAN" | "SELECT" | "JSON" | "LIST" | "FILE" | "CREDENTIAL" | "BROWSER_INSTANCE" | "CONDITIONAL" | "ANY";
            variant: string;
            whole: boolean;
        };
        /** @description The recording that an execution has now. */
        Kept: {
            /** Format: uuid */
            recording_id: string;
        };
        /**
         * @description A kind of credential. ``main`` is the field that a reference means which names none.
         *
         *     A kind that is ``free`` takes fields of any name, all of them secret.
         */
        KindOut: {
            fields: components["schemas"]["FieldOut"][];
            free: boolean;
            help: string;
            label: string;
            main: string;
            name: string;
        };
        /** @description Something that was given up and waits for a person. ``payload`` is what was to be done. */
        Letter: {
            age_seconds: number;
            deliveries: number;
            error: string;
            execution_id: string | null;
            first_failed_at: string;
            handled_at: string | null;
            handled_by: string | null;
            id: number;
            /** @enum {string} */
            kind: "start" | "node" | "schedule" | "message";
            last_failed_at: string;
            node_id: string | null;
            payload: unknown;
            replayed_as: string | null;
            /** @enum {string} */
            status: "open" | "replayed" | "discarded";
            workflow: string | null;
        };
        /** @description Which letters. ``before`` is the id of one: those with a smaller id are listed. */
        LetterFilters: {
            /** @default 2147483647 */
            before: number;
            kind?: ("start" | "node" | "schedule" | "message") | null;
            /** @default 50 */
            limit: number;
            /** @default open */
            status: ("open" | "replayed" | "discarded") | null;
        };
        /** @description One page of dead letters, newest first. ``next`` is the ``before`` of the page after it. */
        LetterPage: {
            count: number;
            items: components["schemas"]["Letter"][];
            next: number | null;
        };
        /** @description What was spent on a day, by a workflow or by an execution. ``key`` is the date or the id. */
        LineOut: {
            credits: number;
            executions: number;
            key: string;
            name: string;
        };
        /** @description Lines of a report, and what they come to. */
        LinePage: {
            credits: number;
            items: components["schemas"]["LineOut"][];
        };
        /**
         * @description Which executions, and which page of them.
         *
         *     Executions that others started (subflows, turns of loops) are listed by ``parent_id``, or with ``children``.
         *     ``before`` is the id of an execution: older ones are listed, as fast as the newest, whatever their number.
         */
        ListFilters: {
            before?: string | null;
            /** @default false */
            children: boolean;
            /** @default 50 */
            limit: number;
            /** @default 0 */
            offset: number;
            parent_id?: string | null;
            status?: ("queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled") | null;
            trigger?: ("manual" | "api" | "test" | "scheduled" | "one_time" | "conditional" | "webhook" | "file" | "database" | "workflow" | "retry" | "fork") | null;
            workflow_id?: string | null;
        };
        /** @description Which events. ``after`` is exclusive; texts are looked for in any case. */
        LogFilters: {
            /** @default 0 */
            after: number;
            /** @default false */
            errors: boolean;
            level?: ("debug" | "info" | "warning" | "error") | null;
            /** @default 1000 */
            limit: number;
            /** @default  */
            step_name: string;
            /** @default  */
            step_type: string;
        };
        /**
         * @description One event as the socket sends it, too. Long values in it are cut; the recording has them whole.
         *
         *     ``level`` is debug, info, warning or error; ``status`` is that of the execution after the event, where it changed.
         */
        LogOut: {
            attempt: number | null;
            data: {
                [key: string]: unknown;
            };
            duration_ms: number;
            error_message: string | null;
            event: string;
            execution_id: string;
            id: string;
            input_data: unknown;
            level: string;
            message: string;
            node_id: string | null;
            output_data: unknown;
            seq: number;
            status: string | null;
            step_name: string;
            step_type: string;
            timestamp: string;
        };
        /** @description Events in order. ``last_seq`` is the newest that exists; ``next_after`` where to go on, empty at the end. */
        LogPage: {
            last_seq: number;
            logs: components["schemas"]["LogOut"][];
            next_after: number | null;
            /** @enum {string} */
            status: "queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled";
        };
        /**
         * @description Whom a request acts for. ``credits`` is null for people who are not metered.
         *
         *     ``token`` is the one that the request came with; ``rates`` is how often it may ask.
         */
        Me: {
            change_everything: boolean;
            credits: components["schemas"]["CreditsOut"] | null;
            email: string;
            id: number;
            is_staff: boolean;
            is_superuser: boolean;
            limits: {
                [key: string]: unknown;
            };
            rates: {
                [key: string]: string;
            };
            see_everything: boolean;
            token: components["schemas"]["TokenOut"] | null;
            username: string;
        };
        /** @description What was or will be said to a channel. Withheld is what nobody was to hear any more; ``error`` is the last one. */
        MessageOut: {
            attempts: number;
            channel_id: string | null;
            channel_name: string;
            /** Format: date-time */
            created_at: string;
            error: string;
            /** @enum {string} */
            event: "firing" | "resolved";
            /** Format: uuid */
            id: string;
            sent_at: string | null;
            /** @enum {string} */
            status: "waiting" | "sent" | "failed" | "withheld";
        };
        /** @description After which event. */
        Moment: {
            seq: number;
        };
        /** @description One event and the state after it. The time is Unix seconds. */
        MomentOut: {
            event_type: string;
            last_seq: number;
            node_id: string | null;
            node_name: string | null;
            parts: components["schemas"]["StatePart"][];
            seq: number;
            timestamp: number;
        };
        /** @description A node that lies elsewhere on the canvas. */
        Moved: {
            after?: unknown;
            before?: unknown;
            id: string;
        };
        /** @description A channel to make. With a ``secret`` what is sent to a webhook is signed. */
        NewChannel: {
            address: string;
            /** @default true */
            enabled: boolean;
            /** @enum {string} */
            kind: "email" | "webhook" | "slack";
            name: string;
            /** @default  */
            secret: string;
        };
        /** @description A credential to store; ``kind`` and its fields are those of ``GET /credentials/kinds``. */
        NewCredential: {
            expires_at?: string | null;
            fields: {
                [key: string]: string;
            };
            /** @default password */
            kind: string;
            name: string;
        };
        /**
         * @description A rule to make. Without ``workflow_id`` it is about all of yours, or with ``everyone`` about everybody's.
         *
         *     The unit of ``threshold`` is that of the kind: percent of failures or of a resource, messages, credits, seconds of
         *     lag, letters, workers. ``subject`` is one queue or resource, where the kind watches several.
         */
        NewRule: {
            /** @default [] */
            channel_ids: string[];
            /** @default true */
            enabled: boolean;
            /** @default false */
            everyone: boolean;
            /** @default 0 */
            for_s: number;
            /** @enum {string} */
            kind: "failure_rate" | "queue_backlog" | "resource_exhaustion" | "cost" | "schedule_lag" | "dead_letters" | "worker_lost";
            /** @default 3 */
            minimum_runs: number;
            name: string;
            /**
             * @default warning
             * @enum {string}
             */
            severity: "info" | "warning" | "critical";
            /** @default  */
            subject: string;
            threshold: number;
            /** @default 900 */
            window_s: number;
            workflow_id?: string | null;
        };
        /** @description A token to make. A token cannot make one that may do more, or lives longer, than itself. */
        NewToken: {
            expires_at?: string | null;
            name: string;
            scopes: string[];
        };
        /** @description A webhook to make. */
        NewWebhook: {
            /**
             * @default [
             *       "POST"
             *     ]
             */
            methods: ("POST" | "PUT" | "PATCH")[];
            name: string;
        };
        /** @description A workflow to create; the definition may follow later. */
        NewWorkflow: {
            definition?: {
                [key: string]: unknown;
            } | null;
            /** @default  */
            description: string;
            name: string;
        };
        /**
         * @description One node's run with its values.
         *
         *     ``inputs`` are those of its last attempt, as the recording has them: null where nothing was recorded yet, secrets
         *     as ``[REDACTED]``. ``outputs`` are what it gave, null while it has given nothing or when they were removed.
         */
        NodeDetail: {
            attempt: number;
            cpu_seconds: number | null;
            credits: number;
            duration_ms: number | null;
            error: string | null;
            error_code: string | null;
            finished_at: string | null;
            inputs: {
                [key: string]: unknown;
            } | null;
            iteration: number;
            name: string;
            node_id: string;
            outputs: {
                [key: string]: unknown;
            } | null;
            peak_memory_bytes: number | null;
            phase: number;
            started_at: string | null;
            /** @enum {string} */
            status: "queued" | "running" | "retrying" | "waiting" | "completed" | "failed" | "skipped" | "cancelled";
            type: string;
        };
        /** @description Which node runs, and which page of them. */
        NodeFilters: {
            /** @default 50 */
            limit: number;
            /** @default 0 */
            offset: number;
            phase?: number | null;
            status?: ("queued" | "running" | "retrying" | "waiting" | "completed" | "failed" | "skipped" | "cancelled") | null;
        };
        /**
         * @description One node's run.
         *
         *     ``cpu_seconds`` and ``peak_memory_bytes`` are what it used since a worker last took it; null where that cannot be told.
         */
        NodeOut: {
            attempt: number;
            cpu_seconds: number | null;
            credits: number;
            duration_ms: number | null;
            error: string | null;
            error_code: string | null;
            iteration: number;
            name: string;
            node_id: string;
            peak_memory_bytes: number | null;
            phase: number;
            /** @enum {string} */
            status: "queued" | "running" | "retrying" | "waiting" | "completed" | "failed" | "skipped" | "cancelled";
            type: string;
        };
        /** @description One page of node runs in the order in which they run; ``count`` is of all pages. */
        NodePage: {
            count: number;
            items: components["schemas"]["NodeOut"][];
        };
        /** @description What a node type takes and gives; ``credits`` is the cost of one finished run. */
        NodeTypeOut: {
            credits: number;
            effect: string;
            group: string;
            inputs: components["schemas"]["InputOut"][];
            label: string;
            outputs: components["schemas"]["OutputOut"][];
            start: boolean;
            subtitle: string;
            summary: string;
            type: string;
        };
        /** @description An output. One that is ``inside`` exists once per turn of a loop: what it leads to is the loop's body. */
        OutputOut: {
            inside: boolean;
            name: string;
            slug: string;
            /** @enum {string} */
            type: "STRING" | "NUMBER" | "BOOLEAN" | "SELECT" | "JSON" | "LIST" | "FILE" | "CREDENTIAL" | "BROWSER_INSTANCE" | "CONDITIONAL" | "ANY";
        };
        /** @description What the nodes of an execution gave, by node id: of all that completed, whatever became of the execution. */
        OutputsOut: {
            error: string | null;
            error_node: string | null;
            /** Format: uuid */
            execution_id: string;
            outputs: {
                [key: string]: {
                    [key: string]: unknown;
                };
            };
            /** @enum {string} */
            status: "queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled";
            version: number;
            /** Format: uuid */
            workflow_id: string;
        };
        /** @description Which page. */
        PageFilters: {
            /** @default 50 */
            limit: number;
            /** @default 0 */
            offset: number;
        };
        /** @description Nodes that run at the same time. */
        PhaseOut: {
            duration_ms: number | null;
            index: number;
            node_count: number;
            /** @enum {string} */
            status: "running" | "completed" | "failed" | "cancelled";
        };
        /** @description The schedule in words and its next instants (UTC), or what is wrong with it. */
        Preview: {
            error: string | null;
            next: string[];
            text: string;
        };
        /** @description What to preview. */
        PreviewFilters: {
            /** @default 5 */
            count: number;
            cron: string;
            /** @default UTC */
            timezone: string;
        };
        /** @description What went wrong, for people. */
        Problem: {
            detail: string;
        };
        /**
         * @description Node runs that have ended, of all.
         *
         *     ``percent`` is the share of its time that the execution is likely to have behind it, by how long nodes ran in earlier executions; a
         *     node that runs counts by what it has taken of that, 90 % of it at most. It is 100 when the execution has ended and never before; null
         *     when it failed or was cancelled.
         */
        Progress: {
            done: number;
            percent: number | null;
            total: number;
        };
        /**
         * @description An approval that waits for an answer: ``POST /executions/{execution_id}/approvals/{node_id}`` gives it.
         *
         *     Whoever has the ``link`` may answer without a login.
         */
        Question: {
            /** Format: uuid */
            execution_id: string;
            link: string | null;
            message: string;
            node_id: string;
            since: string | null;
            title: string;
            workflow_name: string;
        };
        /** @description Which recordings to list. ``before`` is the id of one: older ones are listed, however many there are. */
        RecordingFilters: {
            before?: string | null;
            /** @default 50 */
            limit: number;
            /** @default 0 */
            offset: number;
            success?: boolean | null;
            workflow_id?: string | null;
        };
        /** @description What a recording says about itself. Times are Unix seconds. */
        RecordingOut: {
            checksum: string | null;
            completed_at: number | null;
            credits_consumed?: number | null;
            duration_seconds: number | null;
            error: string | null;
            event_count: number;
            execution_id?: string | null;
            file_size_bytes: number | null;
            node_count: number;
            recording_id: string;
            recursion_max_depth: number;
            started_at: number;
            status?: string | null;
            success: boolean | null;
            tags: string[];
            team_count: number;
            trigger?: string | null;
            workflow_name: string;
            workflow_uuid?: string | null;
            workflow_version?: number | null;
        };
        /**
         * @description One page of recordings, newest first. ``next`` is the ``before`` of the page after it, empty on the last one.
         *
         *     ``count`` is of all pages, and stops at 100,000.
         */
        RecordingsOut: {
            count: number;
            items: components["schemas"]["RecordingOut"][];
            next: string | null;
        };
        /** @description Why a workflow was refused; ``findings`` are its errors. */
        Refused: {
            detail: string;
            /** @default [] */
            findings: components["schemas"]["FindingOut"][];
        };
        /** @description What became of a workflow: a workflow that has run is archived, others are deleted. */
        Removed: {
            deleted: boolean;
            /** @enum {string} */
            status: "deleted" | "archived";
        };
        /** @description Whether the whole execution begins anew, instead of going on from the node that was given up. */
        Replay: {
            /** @default false */
            whole: boolean;
        };
        /** @description The execution that a letter became. */
        Replayed: {
            /** Format: uuid */
            execution_id: string;
            /** @enum {string} */
            status: "queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled";
        };
        /** @description What to add up, and of which days (UTC, both included). */
        ReportFilters: {
            /**
             * @default day
             * @enum {string}
             */
            by: "day" | "workflow" | "execution";
            /** @default 200 */
            limit: number;
            since?: string | null;
            until?: string | null;
        };
        /** @description The number of the version to go back to. */
        RestoreBody: {
            version: number;
        };
        /** @description How much of an execution runs again: all of it, or what failed and what follows (the rest is taken over). */
        Retry: {
            /** @default false */
            from_failed: boolean;
        };
        /** @description How long the present secret stays good; 0 ends it now. */
        Rotation: {
            /** @default 24 */
            grace_hours: number;
        };
        /** @description What to change; what is left out stays. */
        RuleChange: {
            channel_ids?: string[] | null;
            enabled?: boolean | null;
            everyone?: boolean | null;
            for_s?: number | null;
            kind?: ("failure_rate" | "queue_backlog" | "resource_exhaustion" | "cost" | "schedule_lag" | "dead_letters" | "worker_lost") | null;
            minimum_runs?: number | null;
            name?: string | null;
            severity?: ("info" | "warning" | "critical") | null;
            subject?: string | null;
            threshold?: number | null;
            window_s?: number | null;
            workflow_id?: string | null;
        };
        /** @description A rule. ``threshold`` is in the ``unit`` of its kind; ``firing`` says how many of its alerts go on. */
        RuleOut: {
            channel_ids: string[];
            /** Format: date-time */
            created_at: string;
            enabled: boolean;
            everyone: boolean;
            firing: number;
            for_s: number;
            /** Format: uuid */
            id: string;
            /** @enum {string} */
            kind: "failure_rate" | "queue_backlog" | "resource_exhaustion" | "cost" | "schedule_lag" | "dead_letters" | "worker_lost";
            minimum_runs: number;
            name: string;
            /** @enum {string} */
            severity: "info" | "warning" | "critical";
            silenced_until: string | null;
            subject: string;
            threshold: number;
            unit: string;
            window_s: number;
            workflow_id: string | null;
        };
        /** @description One page of rules, by name. */
        RulePage: {
            count: number;
            items: components["schemas"]["RuleOut"][];
        };
        /** @description What was saved, and what is wrong with it. */
        Saved: {
            findings: components["schemas"]["FindingOut"][];
            /** Format: uuid */
            id: string;
            version: number;
        };
        /** @description Which schedules. */
        ScheduleFilters: {
            enabled?: boolean | null;
            /** @default 50 */
            limit: number;
            /** @default 0 */
            offset: number;
        };
        /** @description Cron with five fields, read in an IANA zone. */
        ScheduleIn: {
            cron: string;
            /** @default true */
            enabled: boolean;
            /** @default UTC */
            timezone: string;
        };
        /** @description A schedule with its workflow. */
        ScheduleItem: {
            cron: string;
            enabled: boolean;
            last_run_at: string | null;
            next_run_at: string | null;
            timezone: string;
            /** Format: uuid */
            workflow_id: string;
            workflow_name: string;
        };
        /** @description When a workflow starts by itself. ``next_run_at`` is empty while it is disabled or not active. */
        ScheduleOut: {
            cron: string;
            enabled: boolean;
            last_run_at: string | null;
            next_run_at: string | null;
            timezone: string;
        };
        /** @description One page of schedules; ``count`` is of all pages. */
        SchedulePage: {
            count: number;
            items: components["schemas"]["ScheduleItem"][];
        };
        /** @description For how long nobody is told; ``hours`` of 0 lets people be told again. */
        Silence: {
            hours: number;
        };
        /** @description How far to look back. */
        Span: {
            /** @default 7 */
            days: number;
        };
        /**
         * @description What to run. ``version`` is a number, ``"draft"`` for the newest saved one, or empty for the active one.
         *
         *     ``trigger`` is what the execution is recorded as: pages that a person clicks say "manual", the builder "test". While the
         *     workflow is paused, its active version is started by "manual" only.
         *     ``priority`` is that of the workflow unless given.
         */
        StartBody: {
            input?: {
                [key: string]: unknown;
            };
            priority?: ("high" | "normal" | "low") | null;
            /**
             * @default api
             * @enum {string}
             */
            trigger: "api" | "manual" | "test";
            version?: number | "draft" | null;
            /** Format: uuid */
            workflow_id: string;
        };
        /** @description An execution that was accepted. */
        Started: {
            /** Format: uuid */
            execution_id: string;
            /** @enum {string} */
            status: "queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled";
        };
        /** @description The message that started the execution; null times and zeros for one that another execution started. */
        StartMessage: {
            deliveries: number;
            sent_again: number;
            sent_ms: number | null;
            task: string;
        };
        /** @description One entry of a state. Texts are JSON, or text as it is, of at most about 2,000 characters. */
        StateEntry: {
            /** @enum {string} */
            change: "" | "added" | "changed" | "removed";
            key: string;
            label: string;
            text: string;
            was: string;
        };
        /** @description The state after an event: flat keys, ``$nodes`` and ``$errors``. */
        StateOut: {
            event: components["schemas"]["EventOut"];
            state: {
                [key: string]: unknown;
            };
        };
        /** @description A part of a state: its first 200 entries, those that the event changed in front, and how many there are. */
        StatePart: {
            count: number;
            entries: components["schemas"]["StateEntry"][];
            /** @enum {string} */
            name: "values" | "nodes" | "errors" | "nested";
        };
        /** @description The status after a transition; ``findings`` are warnings about what was activated. */
        StatusOut: {
            active_version: number | null;
            /** @default [] */
            findings: components["schemas"]["FindingOut"][];
            /** @enum {string} */
            status: "draft" | "active" | "paused" | "archived";
        };
        /** @description Where to watch. */
        Streaming: {
            socket: string;
            streaming: boolean;
        };
        /**
         * @description One execution, short. Times are ISO 8601 in UTC; ``duration_ms`` is from queued to the end.
         *
         *     ``held_by`` names the limit that keeps a queued execution from starting; ``parent_id`` is the execution
         *     that started this one as a subflow or as a turn of a loop, ``retry_of_id`` the one that this runs again.
         */
        Summary: {
            credits: number;
            duration_ms: number | null;
            error: string | null;
            error_node: string | null;
            error_node_name: string | null;
            finished_at: string | null;
            held_by: string | null;
            held_reason: string | null;
            /** Format: uuid */
            id: string;
            last_seq: number;
            parent_id: string | null;
            progress: components["schemas"]["Progress"];
            queued_at: string;
            retry_of_id: string | null;
            started_at: string | null;
            /** @enum {string} */
            status: "queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled";
            trigger: string;
            version: number;
            waiting: components["schemas"]["Wait"][];
            /** Format: uuid */
            workflow_id: string;
            workflow_name: string;
        };
        /**
         * @description One page of executions, newest first. ``next`` is the ``before`` of the page after it, empty on the last one.
         *
         *     ``count`` is of all pages, and stops at 100,000.
         */
        SummaryPage: {
            count: number;
            items: components["schemas"]["Summary"][];
            next: string | null;
        };
        /** @description Tags to add and to remove. A recording with the tag ``legal-hold`` is never removed. */
        TagsIn: {
            add?: string[];
            remove?: string[];
        };
        /** @description The tags that a recording has now. */
        TagsOut: {
            tags: string[];
        };
        /** @description A node of a task. */
        TaskNode: {
            attempt: number;
            deliveries: number;
            name: string;
            node_id: string;
            /** @enum {string} */
            status: "queued" | "running" | "retrying" | "waiting" | "completed" | "failed" | "skipped" | "cancelled";
        };
        /**
         * @description Nodes of one phase that were taken together; without a ``claim`` those that nobody holds.
         *
         *     ``way`` says how they came to their process: by a message, kept by the process that opened the phase, run at once
         *     before anything was written, or taken over from the execution that this one is a retry of. ``worker`` is the id of the start
         *     of the worker, ``worker_name`` its host and process while it lives, for those who may see all executions.
         *     ``nodes`` are the first 32. ``sent_again`` says that a message followed after somebody had already taken the nodes: a
         *     process died, or they had to wait.
         */
        TaskOut: {
            attempts: number;
            claim: string | null;
            deliveries: number;
            ended: number;
            failed: number;
            finished_ms: number | null;
            node_count: number;
            nodes: components["schemas"]["TaskNode"][];
            queue: string | null;
            sent_again: boolean;
            sent_ms: number | null;
            started_ms: number | null;
            /** @enum {string} */
            way: "message" | "kept" | "at_once" | "taken_over";
            worker: string | null;
            worker_name: string | null;
        };
        /** @description What became of a test message; ``error`` says why it was not taken. */
        TestOut: {
            error: string;
            taken: boolean;
        };
        /**
         * @description A page of bars, and the chain of nodes that took longest: its first 500, and how many and how long it is.
         *
         *     ``turns`` are the first 100 child executions, in the order of nodes and turns; the counts are of all.
         *     Times are milliseconds since ``queued_at``; ``now_ms`` is the age of the execution, at its end if it has ended.
         */
        TimelineOut: {
            count: number;
            critical: components["schemas"]["CriticalNode"][];
            critical_count: number;
            critical_ms: number;
            finished_ms: number | null;
            items: components["schemas"]["Bar"][];
            now_ms: number;
            queued_at: string;
            started_ms: number | null;
            turn_count: number;
            turns: components["schemas"]["Turn"][];
            turns_ended: number;
            turns_failed: number;
        };
        /** @description A token that was just made. Its text is shown here only. */
        TokenMade: {
            /** Format: date-time */
            created_at: string;
            expires_at: string | null;
            /** Format: uuid */
            id: string;
            last_used_at: string | null;
            name: string;
            prefix: string;
            revoked_at: string | null;
            scopes: string[];
            token: string;
        };
        /** @description A token without its text. ``prefix`` is what its text begins with, after ``fb_``. */
        TokenOut: {
            /** Format: date-time */
            created_at: string;
            expires_at: string | null;
            /** Format: uuid */
            id: string;
            last_used_at: string | null;
            name: string;
            prefix: string;
            revoked_at: string | null;
            scopes: string[];
        };
        /** @description How far to look back, and another threshold than that of the rule. */
        TrialFilters: {
            /** @default 7 */
            days: number;
            threshold?: number | null;
        };
        /**
         * @description What a rule would have done: ``firings`` are the newest 100 of ``count``.
         *
         *     ``highest`` is the highest value of all, null when nothing is known; there are numbers from ``known_since`` on.
         */
        TrialOut: {
            count: number;
            firings: components["schemas"]["FiringOut"][];
            highest: number | null;
            known_since: string | null;
            /** Format: date-time */
            since: string;
            threshold: number;
            /** Format: date-time */
            until: string;
        };
        /** @description When a child execution was queued, began and ended: ``what`` is the turn of a loop, or the workflow of a subflow. */
        Turn: {
            finished_ms: number | null;
            id: string;
            name: string;
            node_id: string;
            queued_ms: number;
            started_ms: number | null;
            /** @enum {string} */
            status: "queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled";
            what: string;
        };
        /** @description A definition to check. */
        Unchecked: {
            definition: {
                [key: string]: unknown;
            };
        };
        /** @description A version with its definition. */
        VersionOut: {
            active: boolean;
            author: string | null;
            content_hash: string;
            /** Format: date-time */
            created_at: string;
            definition: {
                [key: string]: unknown;
            };
            message: string;
            newest: boolean;
            number: number;
        };
        /** @description One page of versions, newest first; ``count`` is of all pages. */
        VersionPage: {
            count: number;
            items: components["schemas"]["VersionSummary"][];
        };
        /** @description A version without its definition. ``active`` is the one that runs, ``newest`` the one that is edited. */
        VersionSummary: {
            active: boolean;
            author: string | null;
            content_hash: string;
            /** Format: date-time */
            created_at: string;
            message: string;
            newest: boolean;
            number: number;
        };
        /**
         * @description Something that an execution waits for. ``until`` is when the wait ends by itself.
         *
         *     Of an approval, ``title`` and ``message`` are what is asked, and whoever has the ``link`` may answer without a
         *     login; it is shown to those who may decide, tokens need the scope ``executions:run``. Of children, ``done`` of ``total`` have ended.
         */
        Wait: {
            done: number | null;
            /** @enum {string} */
            kind: "timer" | "approval" | "children";
            link: string | null;
            message: string;
            name: string;
            node_id: string;
            node_type: string;
            since: string | null;
            title: string;
            total: number | null;
            until: string | null;
        };
        /** @description What to change; what is left out stays. */
        WebhookEdit: {
            enabled?: boolean | null;
            methods?: ("POST" | "PUT" | "PATCH")[] | null;
            name?: string | null;
        };
        /** @description A webhook with a new secret, which is shown here only. */
        WebhookMade: {
            accepted: number;
            /** Format: date-time */
            created_at: string;
            enabled: boolean;
            /** Format: uuid */
            id: string;
            last_received_at: string | null;
            methods: string[];
            name: string;
            old_secret_until: string | null;
            refused: number;
            secret: string;
            test_url: string;
            url: string;
            /** Format: uuid */
            workflow_id: string;
        };
        /**
         * @description A webhook without its secret. ``test_url`` starts the newest version instead of the active one.
         *
         *     ``accepted`` and ``refused`` count requests; ``old_secret_until`` is set while the secret before is good, too.
         */
        WebhookOut: {
            accepted: number;
            /** Format: date-time */
            created_at: string;
            enabled: boolean;
            /** Format: uuid */
            id: string;
            last_received_at: string | null;
            methods: string[];
            name: string;
            old_secret_until: string | null;
            refused: number;
            test_url: string;
            url: string;
            /** Format: uuid */
            workflow_id: string;
        };
        /** @description The number of a version; the newest one unless given. */
        Which: {
            version?: number | null;
        };
        /** @description Which workflows. ``search`` is looked for in name and description, in any case; ``-`` sorts downwards. */
        WorkflowFilters: {
            /** @default 50 */
            limit: number;
            /** @default 0 */
            offset: number;
            /** @default  */
            search: string;
            /**
             * @default name
             * @enum {string}
             */
            sort: "name" | "-name" | "updated_at" | "-updated_at" | "created_at" | "-created_at";
            status?: ("draft" | "active" | "paused" | "archived") | null;
            /** @default  */
            tag: string;
        };
        /** @description A workflow with its settings and the definition of its newest version. */
        WorkflowOut: {
            active_version: number | null;
            definition: {
                [key: string]: unknown;
            };
            description: string;
            /** Format: uuid */
            id: string;
            name: string;
            schedule: components["schemas"]["ScheduleOut"] | null;
            settings: {
                [key: string]: unknown;
            };
            /** @enum {string} */
            status: "draft" | "active" | "paused" | "archived";
            status_at: string | null;
            status_reason: string;
            /** Format: date-time */
            updated_at: string;
            version: number;
        };
        /** @description One page of workflows; ``count`` is of all pages. */
        WorkflowPage: {
            count: number;
            items: components["schemas"]["WorkflowSummary"][];
        };
        /**
         * @description A workflow without its definition. ``version`` is the newest number, 0 before the first save.
         *
         *     ``status_at`` is when it was last activated, paused, resumed, archived or brought back; ``status_reason`` says why it
         *     has its status, when nobody asked for it.
         */
        WorkflowSummary: {
            active_version: number | null;
            description: string;
            /** Format: uuid */
            id: string;
            name: string;
            schedule: components["schemas"]["ScheduleOut"] | null;
            /** @enum {string} */
            status: "draft" | "active" | "paused" | "archived";
            status_at: string | null;
            status_reason: string;
            /** Format: date-time */
            updated_at: string;
            version: number;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    monitoring_api_channels_list_channels: {
        parameters: {
            query?: {
                limit?: number;
                offset?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChannelPage"];
                };
            };
        };
    };
    monitoring_api_channels_create_channel: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewChannel"];
            };
        };
        responses: {
            /** @description Created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChannelOut"];
                };
            };
        };
    };
    monitoring_api_channels_get_channel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                channel_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChannelOut"];
                };
            };
        };
    };
    monitoring_api_channels_change_channel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                channel_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ChannelChange"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChannelOut"];
                };
            };
        };
    };
    monitoring_api_channels_delete_channel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                channel_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description No Content */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    monitoring_api_channels_test_channel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                channel_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TestOut"];
                };
            };
        };
    };
    monitoring_api_rules_list_rules: {
        parameters: {
            query?: {
                limit?: number;
                offset?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RulePage"];
                };
            };
        };
    };
    monitoring_api_rules_create_rule: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewRule"];
            };
        };
        responses: {
            /** @description Created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RuleOut"];
                };
            };
        };
    };
    monitoring_api_rules_get_rule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                rule_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RuleOut"];
                };
            };
        };
    };
    monitoring_api_rules_change_rule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                rule_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RuleChange"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RuleOut"];
                };
            };
        };
    };
    monitoring_api_rules_delete_rule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                rule_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description No Content */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    monitoring_api_rules_silence_rule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                rule_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Silence"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RuleOut"];
                };
            };
        };
    };
    monitoring_api_rules_test_rule: {
        parameters: {
            query?: {
                days?: number;
                threshold?: number | null;
            };
            header?: never;
            path: {
                rule_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TrialOut"];
                };
            };
        };
    };
    monitoring_api_rules_test_new_rule: {
        parameters: {
            query?: {
                days?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewRule"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TrialOut"];
                };
            };
        };
    };
    monitoring_api_alerts_list_alerts: {
        parameters: {
            query?: {
                kind?: ("failure_rate" | "queue_backlog" | "resource_exhaustion" | "cost" | "schedule_lag" | "dead_letters" | "worker_lost") | null;
                limit?: number;
                offset?: number;
                rule_id?: string | null;
                severity?: ("info" | "warning" | "critical") | null;
                state?: ("firing" | "new" | "acknowledged" | "resolved") | null;
                workflow_id?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AlertPage"];
                };
            };
        };
    };
    monitoring_api_alerts_get_alert: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                alert_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AlertDetail"];
                };
            };
        };
    };
    monitoring_api_alerts_acknowledge: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                alert_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AlertOut"];
                };
            };
        };
    };
    executions_api_letters_list_approvals: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Question"][];
                };
            };
        };
    };
    workflows_api_history_list_audit: {
        parameters: {
            query?: {
                before?: number;
                kind?: string;
                limit?: number;
                object_id?: string;
                verb?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditPage"];
                };
            };
        };
    };
    workflows_api_credentials_list_credentials: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CredentialOut"][];
                };
            };
        };
    };
    workflows_api_credentials_create_credential: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewCredential"];
            };
        };
        responses: {
            /** @description Created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CredentialOut"];
                };
            };
        };
    };
    workflows_api_credentials_get_credential: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                credential_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CredentialOut"];
                };
            };
        };
    };
    workflows_api_credentials_change_credential: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                credential_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CredentialChange"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CredentialOut"];
                };
            };
        };
    };
    workflows_api_credentials_delete_credential: {
        parameters: {
            query?: {
                force?: boolean;
            };
            header?: never;
            path: {
                credential_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description No Content */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    workflows_api_credentials_list_kinds: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KindOut"][];
                };
            };
        };
    };
    workflows_api_history_get_credits: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CreditsOut"] | null;
                };
            };
        };
    };
    workflows_api_history_list_entries: {
        parameters: {
            query?: {
                before?: number;
                execution_id?: string | null;
                kind?: ("grant" | "reserve" | "charge" | "refund" | "correction") | null;
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EntryPage"];
                };
            };
        };
    };
    workflows_api_history_report_credits: {
        parameters: {
            query?: {
                by?: "day" | "workflow" | "execution";
                limit?: number;
                since?: string | null;
                until?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LinePage"];
                };
            };
        };
    };
    executions_api_letters_list_letters: {
        parameters: {
            query?: {
                before?: number;
                kind?: ("start" | "node" | "schedule" | "message") | null;
                limit?: number;
                status?: ("open" | "replayed" | "discarded") | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LetterPage"];
                };
            };
        };
    };
    executions_api_letters_get_letter: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                letter_id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Letter"];
                };
            };
        };
    };
    executions_api_letters_discard: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                letter_id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Letter"];
                };
            };
        };
    };
    executions_api_letters_replay: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                letter_id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Replay"];
            };
        };
        responses: {
            /** @description Accepted */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Replayed"];
                };
            };
        };
    };
    executions_api_executions_list_executions: {
        parameters: {
            query?: {
                before?: string | null;
                children?: boolean;
                limit?: number;
                offset?: number;
                parent_id?: string | null;
                status?: ("queued" | "running" | "paused" | "waiting" | "completed" | "completed_with_errors" | "failed" | "cancelled") | null;
                trigger?: ("manual" | "api" | "test" | "scheduled" | "one_time" | "conditional" | "webhook" | "file" | "database" | "workflow" | "retry" | "fork") | null;
                workflow_id?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SummaryPage"];
                };
            };
        };
    };
    executions_api_executions_start: {
        parameters: {
            query?: never;
            header?: {
                "Idempotency-Key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["StartBody"];
            };
        };
        responses: {
            /** @description Accepted */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Started"];
                };
            };
        };
    };
    executions_api_executions_get_execution: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Detail"];
                };
            };
        };
    };
    executions_api_executions_decide: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
                node_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Decision"];
            };
        };
        responses: {
            /** @description Accepted */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Started"];
                };
            };
        };
    };
    executions_api_inside_list_artifacts: {
        parameters: {
            query?: {
                limit?: number;
                offset?: number;
            };
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ArtifactPage"];
                };
            };
        };
    };
    executions_api_executions_cancel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Started"];
                };
            };
        };
    };
    executions_api_inside_get_celery: {
        parameters: {
            query?: {
                limit?: number;
                offset?: number;
            };
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CeleryOut"];
                };
            };
        };
    };
    executions_api_executions_keep: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Kept"];
                };
            };
        };
    };
    executions_api_executions_logs: {
        parameters: {
            query?: {
                after?: number;
                errors?: boolean;
                level?: ("debug" | "info" | "warning" | "error") | null;
                limit?: number;
                step_name?: string;
                step_type?: string;
            };
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LogPage"];
                };
            };
        };
    };
    executions_api_runs_list_nodes: {
        parameters: {
            query?: {
                limit?: number;
                offset?: number;
                phase?: number | null;
                status?: ("queued" | "running" | "retrying" | "waiting" | "completed" | "failed" | "skipped" | "cancelled") | null;
            };
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NodePage"];
                };
            };
        };
    };
    executions_api_runs_get_node: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
                node_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NodeDetail"];
                };
            };
        };
    };
    executions_api_runs_download_outputs: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OutputsOut"];
                };
            };
        };
    };
    executions_api_executions_pause: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Started"];
                };
            };
        };
    };
    executions_api_runs_list_phases: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PhaseOut"][];
                };
            };
        };
    };
    executions_api_executions_resume: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Started"];
                };
            };
        };
    };
    executions_api_executions_retry: {
        parameters: {
            query?: never;
            header?: {
                "Idempotency-Key"?: string | null;
            };
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Retry"];
            };
        };
        responses: {
            /** @description Accepted */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Started"];
                };
            };
        };
    };
    executions_api_executions_start_streaming: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Streaming"];
                };
            };
        };
    };
    executions_api_inside_get_state: {
        parameters: {
            query: {
                seq: number;
            };
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MomentOut"];
                };
            };
        };
    };
    executions_api_inside_get_timeline: {
        parameters: {
            query?: {
                limit?: number;
                offset?: number;
            };
            header?: never;
            path: {
                execution_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TimelineOut"];
                };
            };
        };
    };
    workflows_api_node_types_list_node_types: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NodeTypeOut"][];
                };
            };
        };
    };
    recordings_api_list_recordings: {
        parameters: {
            query?: {
                before?: string | null;
                limit?: number;
                offset?: number;
                success?: boolean | null;
                workflow_id?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RecordingsOut"];
                };
            };
        };
    };
    recordings_api_get_recording: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                recording_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RecordingOut"];
                };
            };
        };
    };
    recordings_api_compare: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                other_id: string;
                recording_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ComparisonOut"];
                };
            };
        };
    };
    recordings_api_download: {
        parameters: {
            query?: {
                format?: "fbrec" | "json.gz" | "json" | "html" | "svg" | "dot" | "summary";
            };
            header?: never;
            path: {
                recording_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    recordings_api_list_events: {
        parameters: {
            query?: {
                after?: number;
                limit?: number;
            };
            header?: never;
            path: {
                recording_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EventsOut"];
                };
            };
        };
    };
    recordings_api_state_at: {
        parameters: {
            query: {
                event: string;
            };
            header?: never;
            path: {
                recording_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StateOut"];
                };
            };
        };
    };
    recordings_api_change_tags: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                recording_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["TagsIn"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TagsOut"];
                };
            };
        };
    };
    recordings_api_artifact: {
        parameters: {
            query: {
                execution: string;
            };
            header?: never;
            path: {
                sha256: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    workflows_api_schedules_list_schedules: {
        parameters: {
            query?: {
                enabled?: boolean | null;
                limit?: number;
                offset?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SchedulePage"];
                };
            };
        };
    };
    workflows_api_schedules_preview_schedule: {
        parameters: {
            query: {
                count?: number;
                cron: string;
                timezone?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Preview"];
                };
            };
        };
    };
    workflows_api_account_list_tokens: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TokenOut"][];
                };
            };
        };
    };
    workflows_api_account_create_token: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewToken"];
            };
        };
        responses: {
            /** @description Created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TokenMade"];
                };
            };
        };
    };
    workflows_api_account_revoke_token: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                token_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description No Content */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    workflows_api_account_me: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Me"];
                };
            };
        };
    };
    workflows_api_workflows_list_workflows: {
        parameters: {
            query?: {
                limit?: number;
                offset?: number;
                search?: string;
                sort?: "name" | "-name" | "updated_at" | "-updated_at" | "created_at" | "-created_at";
                status?: ("draft" | "active" | "paused" | "archived") | null;
                tag?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkflowPage"];
                };
            };
        };
    };
    workflows_api_workflows_create_workflow: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewWorkflow"];
            };
        };
        responses: {
            /** @description Created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkflowOut"];
                };
            };
        };
    };
    workflows_api_workflows_get_workflow: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkflowOut"];
                };
            };
            /** @description Not Modified */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    workflows_api_workflows_save_workflow: {
        parameters: {
            query?: never;
            header?: {
                "If-Match"?: string | null;
            };
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Edit"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Saved"];
                };
            };
        };
    };
    workflows_api_workflows_delete_workflow: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Removed"];
                };
            };
        };
    };
    workflows_api_workflows_activate: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Which"] | null;
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StatusOut"];
                };
            };
        };
    };
    workflows_api_workflows_archive: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StatusOut"];
                };
            };
        };
    };
    workflows_api_versions_clone: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CloneBody"];
            };
        };
        responses: {
            /** @description Created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkflowOut"];
                };
            };
        };
    };
    workflows_api_versions_diff: {
        parameters: {
            query?: {
                new?: number | ("active" | "newest");
                old?: number | ("active" | "newest");
            };
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DiffOut"];
                };
            };
        };
    };
    workflows_api_versions_export: {
        parameters: {
            query?: {
                version?: number | null;
            };
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
        };
    };
    workflows_api_workflows_pause: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StatusOut"];
                };
            };
        };
    };
    workflows_api_workflows_publish: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Which"] | null;
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StatusOut"];
                };
            };
        };
    };
    workflows_api_versions_restore: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RestoreBody"];
            };
        };
        responses: {
            /** @description Created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VersionSummary"];
                };
            };
        };
    };
    workflows_api_workflows_resume: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StatusOut"];
                };
            };
        };
    };
    workflows_api_schedules_get_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ScheduleOut"];
                };
            };
        };
    };
    workflows_api_schedules_set_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ScheduleIn"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ScheduleOut"];
                };
            };
        };
    };
    workflows_api_schedules_clear_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description No Content */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    workflows_api_workflows_unarchive: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StatusOut"];
                };
            };
        };
    };
    workflows_api_versions_list_versions: {
        parameters: {
            query?: {
                limit?: number;
                offset?: number;
            };
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VersionPage"];
                };
            };
        };
    };
    workflows_api_versions_get_version: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                number: number;
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VersionOut"];
                };
            };
            /** @description Not Modified */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    workflows_api_webhooks_list_webhooks: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookOut"][];
                };
            };
        };
    };
    workflows_api_webhooks_create_webhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewWebhook"];
            };
        };
        responses: {
            /** @description Created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookMade"];
                };
            };
        };
    };
    workflows_api_webhooks_change_webhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhook_id: string;
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["WebhookEdit"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookOut"];
                };
            };
        };
    };
    workflows_api_webhooks_delete_webhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhook_id: string;
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description No Content */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    workflows_api_webhooks_rotate_webhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhook_id: string;
                workflow_id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Rotation"] | null;
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookMade"];
                };
            };
        };
    };
    workflows_api_versions_import_workflow: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ImportBody"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Imported"];
                };
            };
        };
    };
    workflows_api_workflows_validate_definition: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Unchecked"];
            };
        };
        responses: {
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Checked"];
                };
            };
        };
    };
}
