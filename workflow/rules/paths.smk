# Files that were asked for by their paths. What is there has no rule that makes it, so the path is the name of a rule
# that needs the file: one that is there is "nothing to be done". A figure comes with its record, which says whether
# it is right.

for file in sorted(ASKED) if workflow.is_main_process else []:

    rule:
        name:
            PATHS[file]
        input:
            [result(needed) for needed in with_record(file)],
        message:
            f"{PATHS[file]} is there"
