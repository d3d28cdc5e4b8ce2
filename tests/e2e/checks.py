"""Read by the end-to-end scripts in Python: check prints `ok - what` or `not ok - what` with what was seen; failures() is how
many were not good."""
_failures = 0


def check(what, good, *seen):
    global _failures
    _failures += not good
    print(f"{'ok' if good else 'not ok'} - {what}", flush=True)
    for text in seen if not good else ():
        print("  # " + str(text).strip().replace("\n", "\n  # "))


def failures():
    return _failures
