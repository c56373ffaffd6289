# Files and jobs that were requested by their names. No rule makes an existing file, so each name becomes a rule that needs
# the files. If they exist, the engine says "Nothing to be done". A figure comes with its record, which shows whether it
# is right.

KNOWN = {task.name for those in TASKS.values() for task in those} | set(RULES)
BY_NAME = {
    **{
        word: files
        for word in {*ENGINE.targets, *FORCERUN, *UNTIL} - KNOWN
        if (files := jobs_files(ALL, word))
    },
    **{PATHS[file]: with_record(file) for file in NAMED},
}
for word, files in sorted(BY_NAME.items()) if workflow.is_main_process else []:

    rule:
        name:
            word
        input:
            [result(needed) for needed in files],
        message:
            f"{word} is there"
