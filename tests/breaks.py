"""Which line carries which guarantee, and the test that must notice when it is gone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    """One line and what guards it.

    Attributes:
        guarantee: in words.
        file: from the root of the repository.
        old: text of the line, found once.
        new: what it becomes.
        test: pytest's name of the guard, without ``tests/``.
    """

    guarantee: str
    file: str
    old: str
    new: str
    test: str


TRAINING = "training/vlkd_training/"
RESUME, UNBROKEN = TRAINING + "resume.py", "training/test_resume.py::test_a_resumed_run_is_the_unbroken_one"
BREAKS = (
    Break(
        "resume: batches fetched ahead are drawn again",
        RESUME,
        'self._recorded.replay = [*ahead, states["rng"]]',
        "pass",
        f"{UNBROKEN}[first-epoch]",
    ),
    Break(
        "resume: loss sums between two log lines",
        RESUME,
        'self._load_sums(Path(checkpoint) / self._own("position"))',
        "pass",
        f"{UNBROKEN}[mid-accumulation]",
    ),
    Break(
        "resume: the method's state is saved",
        RESUME,
        "        if state:\n            save_file({name",
        "        if False:\n            save_file({name",
        "training/test_resume.py::test_a_methods_buffers_travel_by_themselves",
    ),
    Break(
        "resume: loader processes draw by their rows",
        RESUME,
        "torch.manual_seed(zlib.crc32(repr(rows).encode()))",
        "pass",
        "training/test_resume.py::test_workers_draw_the_same_after_a_break",
    ),
    Break(
        "resume: another number of processes is refused",
        RESUME,
        "if before and before != self.args.world_size:",
        "if False:",
        "training/test_resume.py::test_another_number_of_processes_is_refused",
    ),
    Break(
        "resume: another recipe, data set or teacher is refused",
        TRAINING + "runs.py",
        "if changed:",
        "if False:",
        "training/test_runs.py::test_another_run_is_refused",
    ),
    Break(
        "save: older checkpoints go after the new one is there",
        RESUME,
        "limit, self.args.save_total_limit = self.args.save_total_limit, None",
        "limit = self.args.save_total_limit; shutil.rmtree(output / 'checkpoint-1', ignore_errors=True)",
        "training/test_resume.py::test_older_checkpoints_go_only_when_the_new_one_is_there",
    ),
    Break(
        "save: a checkpoint that was cut short is passed over",
        TRAINING + "checkpoints.py",
        "if file.stat().st_size != size:",
        "if False:",
        "training/test_checkpoints.py::test_what_is_not_whole_is_passed_over[shorter]",
    ),
    Break(
        "save: several processes save at the same step",
        TRAINING + "callbacks.py",
        "dist.broadcast(word, 0)",
        "pass",
        "training/test_callbacks.py::test_several_processes_save_at_the_first_ones_word",
    ),
    Break(
        "two processes as one: the gradient reaches the other's rows",
        TRAINING + "losses/gather.py",
        "        dist.all_reduce(total)\n        start",
        "        start",
        "training/test_processes.py::test_two_processes_train_as_one_with_the_doubled_batch[align-torchrun]",
    ),
    Break(
        "chunks: both passes draw the same dropout",
        TRAINING + "chunked.py",
        "_set_random_state(states[number])",
        "pass",
        "training/test_chunked.py::test_dropout_is_the_same_in_both_passes",
    ),
    Break(
        "chunks: the temperature's gradient",
        TRAINING + "chunked.py",
        "elif last:",
        "elif False:",
        "training/test_chunked.py::test_the_gradient_is_the_whole_batchs[vlkd-3]",
    ),
    Break(
        "chunks: frozen parts rest and the method completes the batch",
        TRAINING + "trainer.py",
        "inputs = self._completed(model, self._prepare_inputs(inputs))",
        "inputs = self._prepare_inputs(inputs)",
        "training/test_chunked.py::test_a_step_in_chunks_is_made_ready_like_a_whole_one",
    ),
    Break(
        "cache: a flipped byte is found",
        TRAINING + "cache.py",
        "stated.get(name) != value",
        "False",
        "training/test_cache.py::test_builds_again_what_is_damaged[flip_a_byte]",
    ),
    Break(
        "cache: two processes build once",
        TRAINING + "cache.py",
        'with _locked(root / f"{folder.name}.lock"):',
        "if True:",
        "training/test_cache.py::test_two_processes_build_once",
    ),
    Break(
        "cache: a value that fp16 cannot hold is refused",
        TRAINING + "checks.py",
        'if dtype in ("float16", "int8") else np.inf',
        "if False else np.inf",
        "training/test_checks.py::test_a_value_that_the_cache_cannot_hold",
    ),
    Break(
        "stream: a resumed run keeps the reader whose turn it is",
        TRAINING + "stream.py",
        "worker = (worker + self.batches_done) % workers",
        "pass",
        "training/test_stream.py::test_a_resumed_stream_goes_on_with_the_same_batches[2]",
    ),
    Break(
        "stream: a resumed run reads past what was trained",
        TRAINING + "stream.py",
        "if epoch > first or number >= skipped:",
        "if True:",
        "training/test_stream.py::test_a_resumed_stream_goes_on_with_the_same_batches[0]",
    ),
    Break(
        "stream: a broken picture does not end it",
        TRAINING + "stream.py",
        "            return None\n\n\nclass _Decoded",
        "            raise\n\n\nclass _Decoded",
        "training/test_stream.py::test_a_broken_picture_does_not_end_a_stream",
    ),
    Break(
        "failures: missing weights are not left random",
        "vlkd_hub/hub/loading.py",
        "    if holes:",
        "    if False:",
        "training/test_checks.py::test_missing_weights_are_not_left_random",
    ),
    Break(
        "failures: a temperature that blew up",
        TRAINING + "trainer.py",
        "if not value >= math.log(self.args.min_logit_scale):",
        "if False:",
        "training/test_checks.py::test_a_temperature_that_blew_up",
    ),
    Break(
        "failures: a loss that is no number",
        TRAINING + "trainer.py",
        "if not torch.isfinite(value):",
        "if False:",
        "training/test_trainer.py::test_a_part_that_is_not_finite_is_named",
    ),
    Break(
        "failures: a key that no recipe has",
        TRAINING + "recipe.py",
        "        if key not in fields:",
        "        if False:",
        "training/test_recipe.py::test_refuses",
    ),
    Break(
        "chunks: a frozen image tower looks once",
        TRAINING + "trainer.py",
        "inputs = self.method.precompute(whole, inputs, self.args.cached_contrastive_chunk)",
        "pass",
        "training/test_chunked.py::test_the_frozen_tower_looks_once",
    ),
    Break(
        "save: what is still being written has no checkpoint's name",
        TRAINING + "resume.py",
        "staging = output / STAGING",
        "staging = output",
        "training/test_kill_during_save.py::test_killed_three_times_while_saving",
    ),
    Break(
        "cache: features belong to their data set",
        TRAINING + "features.py",
        '"data": records.fingerprint,',
        '"data": 0,',
        "training/test_features.py::test_features_of_anything_else_are_made_anew[other_data]",
    ),
    Break(
        "cache: features belong to their teacher",
        TRAINING + "features.py",
        '"weights": weights_fingerprint(backbone),',
        '"weights": 0,',
        "training/test_features.py::test_features_of_anything_else_are_made_anew[other_weights]",
    ),
    Break(
        "cache: features belong to their preprocessing",
        TRAINING + "features.py",
        '"preprocessing": fingerprint(preprocessing_of(image_processor)),',
        '"preprocessing": 0,',
        "training/test_features.py::test_features_of_anything_else_are_made_anew[other_preprocessing]",
    ),
    Break(
        "cache: its size is said before it is written",
        TRAINING + "cache.py",
        "_announce(root, folder.name, sum(spec.nbytes for spec in specs.values()))",
        "pass",
        "training/test_cache.py::test_the_size_is_said_before_anything_is_written",
    ),
    Break(
        "stream: pieces of a data set have ids of their own",
        TRAINING + "data/hub.py",
        'before = "" if piece is None else f"{piece[0]}-"',
        'before = ""',
        "training/data/test_hub.py::test_pieces_of_a_stream_have_ids_of_their_own",
    ),
    Break(
        "failures: a tokenizer with more words than the model",
        TRAINING + "checks.py",
        "if words > rows:",
        "if False:",
        "training/test_checks.py::test_a_tokenizer_with_more_words_than_the_model",
    ),
    Break(
        "failures: an empty caption",
        TRAINING + "rows.py",
        "if not caption.strip():",
        "if False:",
        "training/test_checks.py::test_an_empty_caption_names_its_picture",
    ),
    Break(
        "failures: one row a batch under a contrast",
        TRAINING + "checks.py",
        "if method.contrast_outputs and batch_size * processes < 2:",
        "if False:",
        "training/test_checks.py::test_one_row_a_batch_under_a_contrast",
    ),
    Break(
        "failures: a cached teacher's output that is no number",
        TRAINING + "checks.py",
        "    if good.all():",
        "    if True:",
        "training/test_checks.py::test_a_teacher_that_is_no_number",
    ),
    Break(
        "failures: a live teacher's output that is no number",
        TRAINING + "teachers.py",
        "if not torch.isfinite(found).all():",
        "if False:",
        "training/test_checks.py::test_a_teacher_that_answers_nan_while_training",
    ),
    Break(
        "sharded: the config names layers that the student has",
        "training/recipes/accelerate/fsdp-8.yaml",
        "fsdp_transformer_layer_cls_to_wrap: BartDecoderLayer",
        "fsdp_transformer_layer_cls_to_wrap: BartDecoderLayer,BartEncoderLayer",
        "training/test_sharding.py::test_the_sharding_config_names_only_layers_that_the_student_has",
    ),
    Break(
        "sharded: the temperature becomes a vector of one",
        TRAINING + "sharding.py",
        "_reshape(model, lambda value: value.dim() == 0, (1,))",
        "pass",
        "training/test_sharding.py::test_a_sharded_student",
    ),
    Break(
        "method: W'_e starts as the pseudo-inverse of W_e",
        TRAINING + "build.py",
        "    student.tie_weights()\n    invert_text_projection(student)",
        "    student.tie_weights()",
        "training/test_build.py::test_the_way_back_inverts_a_start_that_is_not_solved",
    ),
    Break(
        "method: SCST makes better samples likelier",
        TRAINING + "methods/scst.py",
        "(losses * advantage[rows])",
        "(-losses * advantage[rows])",
        "training/test_scst.py::test_the_gradient_raises_what_scored_better",
    ),
    Break(
        "method: the reward's document frequencies are the corpus's",
        TRAINING + "rewards.py",
        "return self.size",
        "return list.__len__(self)",
        "training/test_rewards.py",
    ),
)
