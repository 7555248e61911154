# The repository is in the lower layer, and is cloned, changed, packed and checked.
git config --global user.name tester
git config --global user.email tester@localhost
git config --global --add safe.directory '*'
if [ "$2" = first ]; then
	git clone -q repository clone
	cd clone
	git checkout -q -b branch HEAD~1
	git mv net moved
	echo more >>moved/ip.go
	git commit -qam change
	git merge -q -m merge master
	git rm -q moved/dial.go
	git commit -qm remove
	git push -q origin branch
	git repack -qad
	cd ..
fi
for repository in clone repository; do
	git -C "$repository" fsck --full --strict --no-progress
done
git -C clone status --porcelain | wc -l | grep -qx 0
test "$(git -C repository rev-parse branch)" = "$(git -C clone rev-parse HEAD)"
