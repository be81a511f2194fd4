"""What git knows, and that nothing breaks where it knows nothing."""

import shutil
import subprocess

import pytest

from iclkit.site import history

GIVEN = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "someone/book"}


def project(place, line=""):
    (place / "pyproject.toml").write_text(f'[project]\nname = "x"\n{line}')
    return place


def git(place, *words):
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(place), *who, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """A repository with two commits of one file and one of another."""
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q")
    for number, subject in enumerate(["First", "A | pipe, `code` and <b>"]):
        (place / "page.ipynb").write_text(str(number))
        git(place, "add", ".")
        git(place, "commit", "-q", "-m", subject)
    (place / "other.txt").write_text("x")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "Another file")
    return place


class TestAddress:
    def test_stands_in_pyproject(self, tmp_path):
        line = '[project.urls]\nRepository = "https://example.org/a/book.git/"\n'
        assert history.address(project(tmp_path, line), GIVEN) == "https://example.org/a/book"

    def test_else_continuous_integration_gives_it(self, tmp_path):
        assert history.address(project(tmp_path), GIVEN) == "https://github.com/someone/book"

    def test_else_there_is_none(self, tmp_path):
        assert history.address(project(tmp_path), {}) is None

    @pytest.mark.parametrize("name", ["", "a b/c", "a/b?x=<script>", 'a/b" onclick="c'])
    def test_odd_variables_give_none(self, tmp_path, name):
        environ = GIVEN | {"GITHUB_REPOSITORY": name}
        assert history.address(project(tmp_path), environ) is None

    def test_what_is_no_address_is_refused(self, tmp_path):
        place = project(tmp_path, '[project.urls]\nRepository = "someone/book"\n')
        with pytest.raises(ValueError, match=r"like https.*, got someone/book"):
            history.address(place, {})


class TestHistory:
    def test_changes_of_one_file_newest_first(self, repository):
        got = history.read_log(repository, ".").of("page.ipynb")
        assert [c.subject for c in got.changes] == ["A | pipe, `code` and <b>", "First"]
        assert all(len(c.commit) == 10 and len(c.date) == 10 for c in got.changes)
        assert not got.edited
        assert not got.problem

    def test_the_latest_commit_counts(self, repository):
        assert [c.subject for c in history.read_log(repository, ".").of("other.txt").changes] == [
            "Another file"
        ]

    def test_an_edit_is_told(self, repository):
        (repository / "page.ipynb").write_text("edited")
        assert history.read_log(repository, ".").of("page.ipynb").edited
        assert not history.read_log(repository, ".").of("other.txt").edited

    @pytest.mark.parametrize("name", ["new.ipynb", "nowhere.ipynb"])
    def test_a_file_without_commits(self, repository, name):
        (repository / "new.ipynb").write_text("")
        assert history.read_log(repository, ".").of(name).problem == history.NO_GIT

    def test_a_shallow_clone_says_so(self, repository, tmp_path):
        clone = tmp_path / "clone"
        source = repository.as_uri()
        subprocess.run(["git", "clone", "-q", "--depth", "1", source, str(clone)], check=True)
        assert history.read_log(clone, ".").of("page.ipynb") == history.History(
            problem=history.SHALLOW
        )

    def test_no_repository(self, tmp_path):
        assert history.read_log(tmp_path, ".").of("page.ipynb").problem == history.NO_GIT

    def test_no_git(self, repository, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda _: None)
        assert history.read_log(repository, ".").of("page.ipynb").problem == history.NO_GIT
        assert history.launch_ref(repository, "1.0") is None


class TestLaunchRef:
    def test_is_the_commit(self, repository):
        got = history.launch_ref(repository, "1.0")
        assert got == history.git(repository, "rev-parse", "HEAD")
        assert len(got) == 40

    def test_is_the_tag_of_this_version_here(self, repository):
        git(repository, "tag", "v0.9")
        assert len(history.launch_ref(repository, "1.0")) == 40
        git(repository, "tag", "v1.0")
        assert history.launch_ref(repository, "1.0") == "v1.0"

    def test_a_tag_elsewhere_does_not_count(self, repository):
        git(repository, "tag", "v1.0", "HEAD~1")
        assert len(history.launch_ref(repository, "1.0")) == 40

    def test_files_are_those_of_the_tree(self, repository):
        (repository / "new.ipynb").write_text("")
        git(repository, "tag", "v0", "HEAD~1")
        assert history.paths_at(repository, "HEAD", ".") == {"page.ipynb", "other.txt"}
        assert history.paths_at(repository, "v0", ".") == {"page.ipynb"}
        assert history.paths_at(repository, "v9", ".") == frozenset()

    def test_a_book_inside_another_repository(self, repository):
        inner = repository / "inner"
        (inner / "notebooks").mkdir(parents=True)
        (inner / "notebooks/a.ipynb").write_text("")
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", "Inside")
        log = history.read_log(inner, "notebooks")
        assert [c.subject for c in log.of("notebooks/a.ipynb").changes] == ["Inside"]
        assert history.paths_at(inner, "HEAD", "notebooks") == {"notebooks/a.ipynb"}


def test_every_notebook_of_the_book_has_a_history_and_can_be_launched(root):
    if history.git(root, "rev-parse", "HEAD") is None:
        pytest.skip("no git here")
    log = history.read_log(root, "notebooks")
    public = history.paths_at(root, history.launch_ref(root, "0"), "notebooks")
    assert public
    for path in public:
        assert log.problem or log.of(path).changes, path
